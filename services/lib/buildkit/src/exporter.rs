//! What BuildKit is told to make of the result: an image in containerd's store.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::Exporter;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::build::Commit;
use crate::error::Error;
use crate::llb;

/// An image of these names, unpacked, ready to run.
///
/// `config` is the image's configuration where BuildKit cannot know it: for a definition of ours.
/// Without it, everything that the base image's configuration says would silently be lost.
pub(crate) fn image(names: &[String], config: Option<&Value>) -> Exporter {
    let mut attrs: HashMap<String, String> = [
        ("name", names.join(",").as_str()),
        ("store", "true"),
        ("unpack", "true"),
        ("oci-mediatypes", "true"),
        // The same for ever: another one gives the same commit another digest.
        ("compression", "gzip"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    if let Some(config) = config {
        attrs.insert("containerimage.config".into(), config.to_string());
    }
    Exporter { r#type: "image".into(), attrs }
}

/// The environment in a base image's configuration.
pub(crate) fn environment(config: &Value) -> Vec<String> {
    let env = config["config"]["Env"].as_array();
    env.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The base image's configuration, made into the new image's: the time, and a history entry for
/// each layer. BuildKit replaces `rootfs`, and would fill missing history with the time of the
/// build, so that the same commit would never give the same digest.
pub(crate) fn config(commit: &Commit, time: i64) -> Result<Value, Error> {
    let incomplete = |what: &str| {
        Error::refused(format!("the configuration of base image {} has no {what}", commit.base))
    };
    let mut config = commit.config.clone();
    for key in ["architecture", "os", "config"] {
        config.get(key).ok_or_else(|| incomplete(key))?;
    }
    let base_layers = config["rootfs"]["diff_ids"].as_array().map(Vec::len);
    let base_layers = base_layers.ok_or_else(|| incomplete("rootfs.diff_ids"))?;
    let created = rfc3339(time)?;
    let mut history = match config["history"].take() {
        Value::Array(history) => history,
        _ => Vec::new(),
    };
    let told = history.iter().filter(|it| it["empty_layer"] != json!(true)).count();
    for _ in told..base_layers {
        history.push(json!({"created": rfc3339(0)?, "created_by": "base"}));
    }
    for layer in llb::layers(commit) {
        history.push(json!({"created": created, "created_by": layer}));
    }
    config["history"] = Value::Array(history);
    config["created"] = Value::String(created);
    Ok(config)
}

fn rfc3339(time: i64) -> Result<String, Error> {
    OffsetDateTime::from_unix_timestamp(time)
        .ok()
        .and_then(|it| it.format(&Rfc3339).ok())
        .ok_or_else(|| Error::refused(format!("the commit's time {time} is no date")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(config: Value) -> Commit {
        Commit {
            base: "docker.io/x/y:1".into(),
            config,
            path: "/f".into(),
            owner: 0,
            dependencies: None,
        }
    }

    #[test]
    fn the_bases_configuration_is_kept_and_its_history_completed() {
        let base = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["A=1"], "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
            "history": [{"created_by": "first"}, {"created_by": "env", "empty_layer": true}],
        });
        assert_eq!(environment(&base), ["A=1"]);
        let made = config(&commit(base.clone()), 86_400).unwrap();
        assert_eq!(made["config"], base["config"]);
        assert_eq!(made["created"], "1970-01-02T00:00:00Z");
        let history: Vec<_> = made["history"].as_array().unwrap().iter().collect();
        let by: Vec<_> = history.iter().map(|it| it["created_by"].as_str().unwrap()).collect();
        assert_eq!(by, ["first", "env", "base", "commit to /f"]);
        assert_eq!(history[3]["created"], made["created"]);
    }

    #[test]
    fn a_configuration_that_would_lose_something_is_refused() {
        for broken in
            [json!({}), json!("text"), json!({"architecture": "a", "os": "b", "config": {}})]
        {
            let error = config(&commit(broken), 0).unwrap_err().to_string();
            assert!(error.starts_with("the configuration of base image docker.io/x/y:1 has no"));
        }
    }
}
