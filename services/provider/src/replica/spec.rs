//! The OCI specification of a replica: the whole of what a function may see and do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::{Error, ErrorCode, FunctionName};
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

/// Where a function keeps what it writes.
const VOLUME: &str = "/data";
/// Size of a replica's `/tmp`, which counts towards its memory.
const TMP_SIZE: &str = "size=64m";
/// Processes and threads of a replica, where the kernel lets us limit them.
const PIDS: u32 = 1024;
/// Functions are ended before anything of the system when memory runs out.
const OOM_SCORE: i32 = 500;

/// What a specification is made from.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) function: &'a FunctionName,
    pub(super) id: &'a str,
    pub(super) image: &'a ImageConfiguration,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) network: &'a Path,
    pub(super) binds: Binds,
    pub(super) limit_pids: bool,
    pub(super) open_files: u64,
}

/// Paths of the host that a replica sees.
#[derive(Debug)]
pub(super) struct Binds {
    pub(super) versions: PathBuf,
    pub(super) run: PathBuf,
    pub(super) volume: PathBuf,
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
}

/// A container's user, as a number: files are owned by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user that an image's configuration names.
pub(super) fn user(image: &ImageConfiguration) -> Result<User, Error> {
    let text = image.config().as_ref().and_then(|it| it.user().as_deref()).unwrap_or_default();
    let number = |part: &str| part.parse::<u32>().ok();
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (number(uid), number(gid)) {
        (Some(uid), Some(gid)) if uid != 0 => Ok(User { uid, gid }),
        _ => Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("the image's user `{text}` is not a number other than 0"),
        )
        .hint("set `USER 1000:1000` in the image")),
    }
}

/// The specification as the JSON that runtimes read.
pub(super) fn build(input: &Input<'_>) -> Result<Value, Error> {
    let user = user(input.image)?;
    let config = input.image.config().as_ref();
    let args: Vec<&String> = config
        .into_iter()
        .flat_map(|it| [it.entrypoint(), it.cmd()])
        .flat_map(|words| words.iter().flatten())
        .collect();
    if args.is_empty() {
        let why = "the image has neither an entrypoint nor a command";
        return Err(Error::new(ErrorCode::InvalidArgument, why));
    }
    let cwd = config.and_then(|it| it.working_dir().as_deref()).filter(|it| it.starts_with('/'));
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if input.limit_pids {
        resources["pids"] = json!({ "limit": PIDS });
    }
    Ok(json!({
        "ociVersion": "1.1.0",
        "process": {
            "terminal": false,
            "user": { "uid": user.uid, "gid": user.gid },
            "args": args,
            "env": env(input),
            "cwd": cwd.unwrap_or("/"),
            "capabilities": { "bounding": [], "effective": [], "permitted": [],
                              "inheritable": [], "ambient": [] },
            "noNewPrivileges": true,
            "oomScoreAdj": OOM_SCORE,
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "hard": input.open_files, "soft": input.open_files },
                { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
            ],
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": input.function.name(),
        "mounts": mounts(&input.binds),
        "linux": {
            "cgroupsPath": format!("/functions/{}", input.id),
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" }, { "type": "network", "path": input.network },
            ],
            "resources": resources,
            "seccomp": super::seccomp::profile(),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    }))
}

/// The image's environment, then the function's, then what OpenFaaS promises.
fn env(input: &Input<'_>) -> Vec<String> {
    let image = input.image.config().as_ref().and_then(|it| it.env().as_ref());
    let mut env = BTreeMap::new();
    for line in image.into_iter().flatten() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        env.insert(name, value);
    }
    env.extend(input.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    env.insert("OPENFAAS_NAME", input.function.name());
    env.insert("OPENFAAS_NAMESPACE", input.function.namespace());
    env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn mounts(binds: &Binds) -> Vec<Value> {
    let special = |destination: &str, kind: &str, options: &[&str]| {
        let options: Vec<&str> = ["nosuid", "noexec"].iter().chain(options).copied().collect();
        json!({ "destination": destination, "type": kind, "source": kind, "options": options })
    };
    let bind = |destination: &str, source: &Path, mode: &str| {
        json!({ "destination": destination, "type": "bind", "source": source,
                "options": ["rbind", "rprivate", "nosuid", "nodev", mode] })
    };
    vec![
        special("/proc", "proc", &["nodev"]),
        special("/dev", "tmpfs", &["strictatime", "mode=755", "size=64k"]),
        special("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
        special("/dev/shm", "tmpfs", &["nodev", "mode=1777", TMP_SIZE]),
        special("/dev/mqueue", "mqueue", &["nodev"]),
        special("/sys", "sysfs", &["nodev", "ro"]),
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "nodev", "mode=1777", TMP_SIZE] }),
        bind(api::switch::VERSIONS_DIR, &binds.versions, "ro"),
        bind(api::switch::RUN_DIR, &binds.run, "rw"),
        bind(VOLUME, &binds.volume, "rw"),
        bind("/etc/hosts", &binds.hosts, "ro"),
        bind("/etc/resolv.conf", &binds.resolv_conf, "ro"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(config: &Value) -> ImageConfiguration {
        serde_json::from_value(json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [] }, "history": [],
        }))
        .unwrap()
    }

    fn spec(config: &Value, env: &[(&str, &str)]) -> Result<Value, Error> {
        let path = |text: &str| PathBuf::from(text);
        build(&Input {
            function: &"hello.staging".parse().unwrap(),
            id: "0000000000000007-1",
            image: &image(config),
            env: &env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            network: Path::new("/run/netns/x"),
            binds: Binds {
                versions: path("/v"),
                run: path("/r"),
                volume: path("/d"),
                hosts: path("/h"),
                resolv_conf: path("/c"),
            },
            limit_pids: true,
            open_files: 1024,
        })
    }

    #[test]
    fn a_replica_has_no_rights_and_sees_only_what_is_its_own() {
        let spec =
            spec(&json!({ "User": "1000:1000", "Cmd": ["/usr/bin/fwatchdog"] }), &[]).unwrap();
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            assert_eq!(spec["process"]["capabilities"][set], json!([]), "{set}");
        }
        assert_eq!(spec["process"]["noNewPrivileges"], true);
        assert_eq!(spec["root"]["readonly"], true);
        assert_eq!(spec["process"]["user"], json!({ "uid": 1000, "gid": 1000 }));
        assert_eq!(spec["linux"]["resources"]["pids"]["limit"], 1024);
        let mounts = spec["mounts"].as_array().unwrap();
        let writable: Vec<&str> = mounts
            .iter()
            .filter(|mount| mount["type"] == "bind")
            .filter(|mount| !mount["options"].as_array().unwrap().contains(&json!("ro")))
            .map(|mount| mount["source"].as_str().unwrap())
            .collect();
        assert_eq!(writable, ["/r", "/d"]);
        assert!(
            mounts.iter().all(|it| it["options"].as_array().unwrap().contains(&json!("nosuid")))
        );
    }

    #[test]
    fn the_environment_is_the_images_then_the_functions_then_openfaas() {
        let config =
            json!({ "User": "1000", "Cmd": ["x"], "Env": ["A=1=1", "B=2", "OPENFAAS_NAME=x"] });
        let spec = spec(&config, &[("B", "3"), ("C", "")]).unwrap();
        let expected = ["A=1=1", "B=3", "C=", "OPENFAAS_NAME=hello", "OPENFAAS_NAMESPACE=staging"];
        assert_eq!(spec["process"]["env"], json!(expected));
    }

    #[test]
    fn entrypoint_and_command_are_one_and_the_working_folder_is_the_images() {
        let config = json!({ "User": "12:34", "Entrypoint": ["a", "b"], "Cmd": ["c"], "WorkingDir": "/home/app" });
        let spec = spec(&config, &[]).unwrap();
        assert_eq!(spec["process"]["args"], json!(["a", "b", "c"]));
        assert_eq!(spec["process"]["cwd"], "/home/app");
        assert_eq!(spec["process"]["user"], json!({ "uid": 12, "gid": 34 }));
    }

    #[test]
    fn an_image_that_cannot_run_here_is_refused_by_name() {
        for (config, why) in [
            (json!({ "User": "app", "Cmd": ["x"] }), "`app` is not a number"),
            (json!({ "Cmd": ["x"] }), "`` is not a number"),
            (json!({ "User": "0", "Cmd": ["x"] }), "`0` is not a number other than 0"),
            (json!({ "User": "1000" }), "neither an entrypoint nor a command"),
        ] {
            let error = spec(&config, &[]).unwrap_err();
            assert!(error.message.contains(why), "{config}: {error}");
        }
    }
}
