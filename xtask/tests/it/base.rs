//! The python3 base on its own, with nothing of Inplace around it: as any OpenFaaS runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

/// An unpacked image.
struct Root {
    dir: TempDir,
    config: Value,
}

impl Root {
    fn unpack(layout: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blob = |descriptor: &Value| -> PathBuf {
            let digest = descriptor["digest"].as_str().unwrap();
            layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
        };
        let json =
            |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let index = json(layout.join("index.json"));
        let manifest = json(blob(&index["manifests"][0]));
        for layer in manifest["layers"].as_array().unwrap() {
            run(Command::new("tar").arg("-xpf").arg(blob(layer)).arg("-C").arg(dir.path()));
        }
        let config = json(blob(&manifest["config"]))["config"].take();
        Self { dir, config }
    }

    /// Runs a script of the host in a network of its own; `$ROOT` is the image, `$RUN` starts a
    /// command in it as its config says.
    fn script(&self, script: &str) -> String {
        let env = self.config["Env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| format!("'{}'", it.as_str().unwrap()));
        let inside = format!(
            "chroot --userspec={} {} env -i {}",
            self.config["User"].as_str().unwrap(),
            self.dir.path().display(),
            env.collect::<Vec<_>>().join(" ")
        );
        let script = format!(
            "set -eu; ip link set lo up; mount --bind /dev $ROOT/dev; run() {{ {inside} \"$@\"; }}; {script}"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
        run(command.env("ROOT", self.dir.path()))
    }
}

fn base() -> Root {
    Root::unpack(&testkit::Tools::from_env().unwrap().bases.join("python3"))
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_function_copied_into_the_base_answers_as_on_any_openfaas() {
    let root = base();
    let template =
        testkit::Tools::from_env().unwrap().bases.join("templates/python3-http/function");
    run(Command::new("cp").arg("-r").arg(template).arg(root.dir.path().join("home/app")));
    assert_eq!(root.config["Cmd"], serde_json::json!(["/usr/bin/fwatchdog"]));
    let answer = root.script(
        "run /usr/bin/fwatchdog >&2 & \
         timeout 60 sh -c 'until busybox wget -qO- --post-data=hello http://127.0.0.1:8080/; do sleep 0.1; done'",
    );
    assert_eq!(answer.trim(), "Hello, world! You sent 5 bytes by POST.");
}

#[test]
fn the_base_has_what_functions_and_their_builds_need() {
    let root = base();
    let check = |expression: &str, expected: &str| {
        let answer = root.script(&format!(
            "run python3 -c 'import os, ssl, zoneinfo, waitress, pip, json; print({expression})'"
        ));
        assert_eq!(answer.trim(), expected, "{expression}");
    };
    check("os.getuid(), os.getgid(), os.environ[\"HOME\"]", "1000 1000 /home/app");
    check("ssl.create_default_context().cert_store_stats()[\"x509_ca\"] > 100", "True");
    check("zoneinfo.ZoneInfo(\"Europe/Berlin\")", "Europe/Berlin");
    check("os.path.exists(json.__cached__) and os.path.exists(waitress.__cached__)", "True");
    check("pip.__version__.split(\".\")[0].isdigit()", "True");
    assert_eq!(root.script("run sh -c 'ls /home/app'").trim(), "function\nindex.py");
}
