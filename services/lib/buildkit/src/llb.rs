//! The definition of a commit in BuildKit's own terms (LLB): a graph of operations.

use bollard_buildkit_proto::pb::{
    self, CacheOpt, ChownOpt, ExecOp, FileAction, FileActionCopy, FileActionRm, FileOp, Meta,
    Mount, MountType, NetMode, SourceOp, UserOpt, file_action::Action, op::Op, user_opt::User,
};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::build::{Commit, Dependencies, Network};

/// How the context is named in the definition and in the session.
pub(crate) const CONTEXT: &str = "context";
/// The copy's result is not part of the operation's outcome.
const NO_OUTPUT: i64 = -1;

/// Operations in order, each named by the digest of its bytes.
#[derive(Default)]
struct Graph(pb::Definition);

impl Graph {
    /// Adds an operation and gives its digest, for others to name it as input.
    fn add(&mut self, op: Op, inputs: &[&str], name: &str, caps: &[&str]) -> String {
        let platform =
            pb::Platform { os: "linux".into(), architecture: "amd64".into(), ..Default::default() };
        self.push(Some(op), Some(platform), inputs, name, caps)
    }

    /// Says whose outcome is the definition's.
    fn finish(mut self, outcome: &str) -> pb::Definition {
        self.push(None, None, &[outcome], "", &["constraints"]);
        self.0
    }

    fn push(
        &mut self,
        op: Option<Op>,
        platform: Option<pb::Platform>,
        inputs: &[&str],
        name: &str,
        caps: &[&str],
    ) -> String {
        let inputs =
            inputs.iter().map(|it| pb::Input { digest: (*it).to_owned(), index: 0 }).collect();
        let bytes = pb::Op { inputs, op, platform, constraints: None }.encode_to_vec();
        let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
        let caps = caps.iter().map(|it| ((*it).to_owned(), true)).collect();
        let mut metadata = pb::OpMetadata { caps, ..Default::default() };
        if !name.is_empty() {
            // Shown in the status stream; no part of the digest, so it never costs the cache.
            metadata.description.insert("llb.customname".into(), name.into());
        }
        self.0.metadata.insert(digest.clone(), metadata);
        self.0.def.push(bytes);
        digest
    }
}

/// The name that the step shows which looks the base image up.
pub(crate) fn base_step(base: &str) -> String {
    format!("base {base}")
}

/// What the image's history says of each layer that [`definition`] adds, in order.
pub(crate) fn layers(commit: &Commit) -> Vec<String> {
    let mut layers = Vec::new();
    if let Some(dependencies) = &commit.dependencies {
        layers.push(format!("copy {}", dependencies.file));
        layers.push(dependencies.command.join(" "));
    }
    layers.push(format!("commit to {}", commit.path));
    layers
}

/// Base image, dependencies if any, then the commit's files in the place of `commit.path`.
///
/// `session` is the session that serves the files, `time` the commit's, in seconds since 1970.
/// `env` is the environment of the base image.
pub(crate) fn definition(
    commit: &Commit,
    env: &[String],
    session: &str,
    time: i64,
) -> pb::Definition {
    let mut graph = Graph::default();
    let mut below = graph.add(
        source(format!("docker-image://{}", commit.base), &[("image.resolvemode", "local")]),
        &[],
        &base_step(&commit.base),
        &["source.image", "source.image.resolvemode"],
    );
    // BuildKit merges equal steps of builds that run at the same time. Without the session in the
    // step, the second of two commits would silently get the files of the first.
    let context = graph.add(
        source(
            format!("local://{CONTEXT}"),
            &[
                ("local.session", session),
                ("local.sharedkeyhint", CONTEXT),
                ("local.differ", "metadata"),
            ],
        ),
        &[],
        "read the commit's files",
        &[
            "source.local",
            "source.local.sessionid",
            "source.local.sharedkeyhint",
            "source.local.differ",
        ],
    );
    if let Some(dependencies) = &commit.dependencies {
        below = install(&mut graph, dependencies, env, &below, &context);
    }
    let files = graph.add(
        Op::File(FileOp { actions: replace(&commit.path, commit.owner, time * 1_000_000_000) }),
        &[&below, &context],
        &format!("commit to {}", commit.path),
        &["file.base", "file.copy.includeexcludepatterns"],
    );
    graph.finish(&files)
}

/// The dependency file alone, then the command.
fn install(
    graph: &mut Graph,
    dependencies: &Dependencies,
    env: &[String],
    base: &str,
    context: &str,
) -> String {
    // Time 0 and not the commit's, which would make the step a new one at every commit.
    let folder = format!("{}/", dependencies.folder);
    let copy = Action::Copy(copy(&format!("/{}", dependencies.file), &folder, Some(0), 0));
    let copied = graph.add(
        Op::File(FileOp { actions: vec![action(0, 1, 0, copy)] }),
        &[base, context],
        &format!("copy {}", dependencies.file),
        &["file.base"],
    );
    let root = Mount { input: 0, dest: "/".into(), output: 0, ..Default::default() };
    let cache = dependencies.cache.as_ref().map(|cache| Mount {
        input: NO_OUTPUT,
        output: NO_OUTPUT,
        dest: cache.path.clone(),
        mount_type: MountType::Cache.into(),
        cache_opt: Some(CacheOpt { id: cache.id.clone(), sharing: 0 }),
        ..Default::default()
    });
    let exec = ExecOp {
        meta: Some(Meta {
            args: dependencies.command.clone(),
            env: env.iter().chain(&dependencies.env).cloned().collect(),
            cwd: dependencies.folder.clone(),
            ..Default::default()
        }),
        mounts: std::iter::once(root).chain(cache).collect(),
        network: match dependencies.network {
            Network::None => NetMode::None.into(),
            Network::Daemon => NetMode::Unset.into(),
        },
        ..Default::default()
    };
    graph.add(
        Op::Exec(exec),
        &[&copied],
        "install dependencies",
        &["exec.meta.base", "exec.meta.network", "exec.mount.bind", "exec.mount.cache"],
    )
}

/// Removes what is at `path`, puts the context there, and gives every folder above the same time:
/// removing and making `path` would leave the time of the build in its parent.
fn replace(path: &str, owner: u32, time: i64) -> Vec<FileAction> {
    // Inputs: 0 is the image so far, 1 the context, 2 + n the result of action n.
    let remove = FileActionRm { path: path.into(), allow_not_found: true, ..Default::default() };
    let mut actions = vec![
        action(0, NO_OUTPUT, NO_OUTPUT, Action::Rm(remove)),
        action(2, 1, NO_OUTPUT, Action::Copy(copy("/", path, Some(owner), time))),
    ];
    let mut folder = path;
    for input in 3.. {
        folder = match folder.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => parent,
            _ => break,
        };
        // Copies nothing, and so only sets the folder's time.
        let mut touch = copy("/", folder, None, time);
        touch.include_patterns = vec![".no-such-name".into()];
        actions.push(action(input, 1, NO_OUTPUT, Action::Copy(touch)));
    }
    if let Some(last) = actions.last_mut() {
        last.output = 0;
    }
    actions
}

fn action(input: i64, secondary_input: i64, output: i64, action: Action) -> FileAction {
    FileAction { input, secondary_input, output, action: Some(action) }
}

fn source(identifier: String, attrs: &[(&str, &str)]) -> Op {
    let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Op::Source(SourceOp { identifier, attrs })
}

/// `time` in nanoseconds since 1970; `owner` none keeps whose the files are.
fn copy(src: &str, dest: &str, owner: Option<u32>, time: i64) -> FileActionCopy {
    let user = |id| Some(UserOpt { user: Some(User::ById(id)) });
    FileActionCopy {
        src: src.into(),
        dest: dest.into(),
        owner: owner.map(|id| ChownOpt { user: user(id), group: user(id) }),
        mode: -1, // as they are
        dir_copy_contents: true,
        create_dest_path: true,
        timestamp: time,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Cache;

    fn commit(path: &str, dependencies: Option<Dependencies>) -> Commit {
        Commit {
            base: "docker.io/inplace/python3:abc".into(),
            config: serde_json::json!({}),
            path: path.into(),
            owner: 1000,
            dependencies,
        }
    }

    fn ops(definition: &pb::Definition) -> Vec<pb::Op> {
        definition.def.iter().map(|it| pb::Op::decode(it.as_slice()).unwrap()).collect()
    }

    #[test]
    fn every_op_has_metadata_and_inputs_that_exist() {
        let dependencies = Dependencies {
            file: "requirements.txt".into(),
            folder: "/build".into(),
            command: vec!["pip".into()],
            env: vec!["B=2".into()],
            network: Network::None,
            cache: Some(Cache { id: "pip".into(), path: "/cache".into() }),
        };
        let definition = definition(&commit("/a/b", Some(dependencies)), &["A=1".into()], "s1", 7);
        let mut known = Vec::new();
        for (bytes, op) in definition.def.iter().zip(ops(&definition)) {
            assert!(op.inputs.iter().all(|it| known.contains(&it.digest)));
            let digest = format!("sha256:{:x}", Sha256::digest(bytes));
            assert!(definition.metadata.contains_key(&digest));
            known.push(digest);
        }
        let exec = ops(&definition).into_iter().find_map(|it| match it.op {
            Some(Op::Exec(exec)) => Some(exec),
            _ => None,
        });
        let exec = exec.unwrap();
        assert_eq!(exec.network, NetMode::None as i32);
        assert_eq!(exec.meta.unwrap().env, ["A=1", "B=2"]);
        assert_eq!(exec.mounts.len(), 2);
    }

    #[test]
    fn each_folder_above_gets_the_commits_time_and_the_last_is_the_outcome() {
        let actions = replace("/home/app/function", 1000, 7);
        let brief: Vec<_> = actions
            .iter()
            .map(|it| match it.action.as_ref().unwrap() {
                Action::Copy(copy) => (it.input, it.output, copy.dest.as_str(), copy.timestamp),
                Action::Rm(rm) => (it.input, it.output, rm.path.as_str(), 0),
                _ => unreachable!(),
            })
            .collect();
        let expected = [
            (0, -1, "/home/app/function", 0),
            (2, -1, "/home/app/function", 7),
            (3, -1, "/home/app", 7),
            (4, 0, "/home", 7),
        ];
        assert_eq!(brief, expected);
        assert_eq!(replace("/f", 0, 0).last().unwrap().output, 0);
    }

    #[test]
    fn the_session_is_part_of_the_step_and_the_name_is_not() {
        let digests = |session| {
            let definition = definition(&commit("/f", None), &[], session, 0);
            definition.metadata.into_keys().collect::<Vec<_>>()
        };
        assert_ne!(digests("one"), digests("two"));
        assert_eq!(digests("one"), digests("one"));
    }
}
