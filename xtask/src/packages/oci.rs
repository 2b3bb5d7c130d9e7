//! OCI image layouts, written by hand: a few small JSON files around layers that are there already.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::{Value, json};

use super::key::sha256;
use super::spec::Oci;

/// Media type of a layer that is not compressed.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Annotation of `index.json` that holds an image's full name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Writes a layout with one image into an empty folder and returns the image's full name.
///
/// `layers` are files named by their SHA-256, from below to above; they are linked, not copied.
/// The tag is the start of the manifest's digest, so that a name never means two images.
pub(crate) fn write(dir: &Path, name: &str, oci: &Oci, layers: &[PathBuf]) -> Result<String> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in layers {
        let digest = layer
            .file_name()
            .and_then(|it| it.to_str())
            .context("a layer is named by its digest")?;
        if !blobs.join(digest).exists() {
            fs::hard_link(layer, blobs.join(digest))?;
        }
        descriptors.push(descriptor(LAYER, digest, fs::metadata(layer)?.len()));
        diff_ids.push(format!("sha256:{digest}"));
    }
    // Keys in order, and no time: the same layers and settings are the same image.
    let config = json!({
        "architecture": "amd64",
        "config": {
            "Cmd": oci.cmd,
            "Env": oci.env,
            "User": oci.user,
            "WorkingDir": oci.workdir,
        },
        "os": "linux",
        "rootfs": { "diff_ids": diff_ids, "type": "layers" },
    });
    let config = blob(&blobs, CONFIG, &config)?;
    let manifest = json!({
        "config": config,
        "layers": descriptors,
        "mediaType": MANIFEST,
        "schemaVersion": 2,
    });
    let mut manifest = blob(&blobs, MANIFEST, &manifest)?;
    let digest = manifest["digest"].as_str().context("a descriptor has a digest")?;
    let full_name = format!("docker.io/inplace/{name}:{}", &digest["sha256:".len()..][..12]);
    manifest["annotations"] = json!({ REF_NAME: full_name });
    let index = json!({ "manifests": [manifest], "schemaVersion": 2 });
    fs::write(dir.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(full_name)
}

/// The full name of the one image in a layout.
pub(crate) fn full_name(layout: &Path) -> Result<String> {
    let path = layout.join("index.json");
    let index: Value = serde_json::from_slice(&fs::read(&path)?)
        .with_context(|| format!("reading {}", path.display()))?;
    let name = index["manifests"][0]["annotations"][REF_NAME].as_str();
    Ok(name.with_context(|| format!("{} names no image", path.display()))?.to_owned())
}

fn blob(blobs: &Path, media_type: &str, value: &Value) -> Result<Value> {
    let bytes = serde_json::to_vec(value)?;
    let digest = sha256(&bytes);
    fs::write(blobs.join(&digest), &bytes)?;
    Ok(descriptor(media_type, &digest, bytes.len() as u64))
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({ "digest": format!("sha256:{digest}"), "mediaType": media_type, "size": size })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut work = vec![dir.to_owned()];
        while let Some(next) = work.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    work.push(path);
                } else {
                    found.insert(
                        path.strip_prefix(dir).unwrap().to_owned(),
                        sha256(&fs::read(&path).unwrap()),
                    );
                }
            }
        }
        found
    }

    #[test]
    fn the_same_layers_and_settings_are_the_same_layout() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join(sha256(b"layer"));
        fs::write(&layer, "layer").unwrap();
        let oci =
            Oci { user: "1000:1000".to_owned(), cmd: vec!["/bin/x".to_owned()], ..Oci::default() };
        let layout = |name: &str, oci: &Oci| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            let full = write(&path, "python3", oci, std::slice::from_ref(&layer)).unwrap();
            assert_eq!(full_name(&path).unwrap(), full);
            (full, files(&path))
        };
        let first = layout("one", &oci);
        assert_eq!(first, layout("two", &oci));
        assert_ne!(
            first.0,
            layout("three", &Oci { user: "0".to_owned(), ..oci }).0,
            "another image, another name"
        );
        for (path, digest) in &first.1 {
            if path.starts_with("blobs") {
                assert_eq!(
                    path.file_name().unwrap().to_str().unwrap(),
                    digest,
                    "a blob is named by its content"
                );
            }
        }
    }
}
