//! Every key and every quirk of LinuxKit's yml that concerns planning.

mod container;
mod quirks;

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

/// What a test's yml may name: a package with a command and a user of its own.
fn packages() -> Vec<Package> {
    let config = ImageConfig {
        command: vec!["/bin/web".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/srv".to_owned(),
        user: "1000".to_owned(),
    };
    let plain = ImageConfig { user: String::new(), ..config.clone() };
    vec![
        Package { name: "web".to_owned(), dir: PathBuf::from("/tree/pkg/web"), config },
        Package { name: "app".to_owned(), dir: PathBuf::from("/tree/pkg/app"), config: plain },
    ]
}

fn sources(texts: &[&str]) -> Vec<Source> {
    let source = |(number, text): (usize, &&str)| Source {
        name: format!("{}.yml", char::from(b"abc"[number])),
        dir: PathBuf::from("/tree/images"),
        text: (*text).to_owned(),
    };
    texts.iter().enumerate().map(source).collect()
}

/// The plan as `--json` prints it.
#[track_caller]
fn planned(texts: &[&str]) -> Value {
    let outcome =
        plan(&sources(texts), &packages()).unwrap_or_else(|it| panic!("{}", it.join("\n")));
    serde_json::to_value(&outcome.plan).unwrap()
}

#[track_caller]
fn check(text: &str, pointer: &str, expected: &Value) {
    let plan = planned(&[text]);
    let found = plan.pointer(pointer).unwrap_or(&Value::Null);
    assert_eq!(found, expected, "{pointer} of\n{text}");
}

/// All mistakes, without the lines shown.
#[track_caller]
fn check_mistakes(texts: &[&str], expected: &[&str]) {
    let mistakes = plan(&sources(texts), &packages()).expect_err("mistakes");
    let first: Vec<&str> = mistakes.iter().filter_map(|it| it.lines().next()).collect();
    assert_eq!(first, expected);
}

#[track_caller]
fn check_warnings(text: &str, expected: &[&str]) {
    let outcome = plan(&sources(&[text]), &packages()).unwrap_or_else(|it| panic!("{it:?}"));
    let first: Vec<&str> = outcome.warnings.iter().filter_map(|it| it.lines().next()).collect();
    assert_eq!(first, expected);
}

#[test]
fn the_machine_of_the_tree_plans() {
    let path = crate::workspace::root().join("images/minimal.yml");
    let text = fs_err::read_to_string(path).unwrap();
    let outcome = plan(&sources(&[&text]), &[]).unwrap_or_else(|it| panic!("{}", it.join("\n")));
    assert_eq!(outcome.warnings, [""; 0]);
    let plan = serde_json::to_value(&outcome.plan).unwrap();
    let containerd = &plan["services"][0];
    assert_eq!(containerd["dir"], "/containers/services/containerd");
    assert_eq!(containerd["config"]["linux"]["namespaces"], json!([{"type": "mount"}]));
    assert_eq!(containerd["config"]["linux"]["cgroupsPath"], "/containerd");
    assert_eq!(containerd["supervise"]["runtime"], "oci");
    assert_eq!(plan["services"][1]["supervise"]["after"], json!(["containerd"]));
    assert_eq!(plan["onboot"][0]["dir"], "/containers/onboot/000-dhcp");
    assert!(outcome.plan.to_string().contains("after containerd"));
}

#[test]
fn a_plan_has_all_its_keys_whatever_the_yml_has() {
    let expected = json!({"kernel": null, "init": [], "onboot": [], "onshutdown": [],
        "services": [], "files": [], "volumes": []});
    assert_eq!(planned(&["{}"]), expected);
}

#[test]
fn the_kernel_has_linuxkits_defaults() {
    let kernel = |rest: &str| format!("kernel: {{image: linuxkit/kernel:6.12{rest}}}");
    for (rest, key, expected) in [
        ("", "image", json!("docker.io/linuxkit/kernel:6.12")),
        ("", "cmdline", json!("")),
        (", cmdline: quiet", "cmdline", json!("quiet")),
        ("", "binary", json!("kernel")),
        (", binary: bzImage", "binary", json!("bzImage")),
        ("", "tar", json!("kernel.tar")),
        (", tar: none", "tar", json!(null)),
        (", tar: ''", "tar", json!(null)),
        (", tar: m.tar", "tar", json!("m.tar")),
        ("", "ucode", json!(null)),
        (", ucode: u.cpio", "ucode", json!("u.cpio")),
    ] {
        check(&kernel(rest), &format!("/kernel/{key}"), &expected);
    }
}

#[test]
fn names_of_images_are_spelled_out() {
    let text = "init: [alpine, a/b:1, 'localhost/x', 'r.example:5000/y@sha256:00', inplace/web, '@pkg:../pkg/app']";
    let expected = json!([
        "docker.io/library/alpine",
        "docker.io/a/b:1",
        "localhost/x",
        "r.example:5000/y@sha256:00",
        "docker.io/inplace/web",
        "docker.io/inplace/app",
    ]);
    check(text, "/init", &expected);
}

#[test]
fn files_have_linuxkits_defaults() {
    for (entry, key, expected) in [
        ("path: /etc/a, contents: x", "path", json!("etc/a")),
        ("path: a, contents: ''", "contents", json!("")),
        ("path: a, contents: x", "mode", json!("0600")),
        ("path: a, directory: true", "mode", json!("0700")),
        ("path: a, directory: true", "directory", json!(true)),
        ("path: a, symlink: /b", "symlink", json!("/b")),
        ("path: a, source: /b", "source", json!("/b")),
        ("path: a, source: /b, optional: true", "optional", json!(true)),
        ("path: a, metadata: json", "metadata", json!("json")),
        ("path: a, contents: x, mode: '0644'", "mode", json!("0644")),
        ("path: a, contents: x, uid: 7", "uid", json!(7)),
        ("path: a, contents: x, gid: two", "gid", json!(101)),
        ("path: a, contents: x", "uid", json!(0)),
    ] {
        let services =
            "services: [{name: one, image: inplace/app}, {name: two, image: inplace/app}]";
        check(&format!("files: [{{{entry}}}]\n{services}"), &format!("/files/0/{key}"), &expected);
    }
}

#[test]
fn volumes_have_linuxkits_defaults() {
    for (entry, key, expected) in [
        ("name: v", "image", json!(null)),
        ("name: v, image: alpine", "image", json!("docker.io/library/alpine")),
        ("name: v", "dir", json!("/containers/volumes/v")),
        ("name: v", "readonly", json!(false)),
        ("name: v, readonly: true", "readonly", json!(true)),
        ("name: v", "format", json!("filesystem")),
        ("name: v, format: oci", "format", json!("oci")),
        ("name: v, platforms: [linux/amd64]", "platforms", json!(["linux/amd64"])),
    ] {
        check(&format!("volumes: [{{{entry}}}]"), &format!("/volumes/0/{key}"), &expected);
    }
}

#[test]
fn files_are_merged_as_linuxkit_merges_them() {
    let plan = planned(&[
        "kernel: {image: a/k, cmdline: one}\ninit: [a/i]\nservices: [{name: x, image: inplace/app}]",
        "kernel: {cmdline: two}\ninit: [a/j]\nservices: [{name: y, image: inplace/app}]",
    ]);
    assert_eq!(plan["kernel"]["image"], "docker.io/a/k");
    assert_eq!(plan["kernel"]["cmdline"], "two");
    assert_eq!(plan["init"], json!(["docker.io/a/i", "docker.io/a/j"]));
    let names: Vec<&Value> =
        plan["services"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["x", "y"]);
}

#[test]
fn a_mistake_shows_its_line_and_the_nearest_key() {
    let text = "services:\n  - name: x\n    image: inplace/app\n    comand: [a]\n";
    let mistakes = plan(&sources(&[text]), &packages()).unwrap_err();
    let (head, tail) = mistakes[0].split_once('\n').unwrap();
    assert!(head.starts_with("a.yml:4:5: unknown key `comand`; did you mean `command`? (known: "));
    assert_eq!(tail, "     4 |     comand: [a]\n       |     ^");
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    check_mistakes(
        &["kernal: {}\nfiles:\n  - {path: a, mode: 0644}\n", "init: x\n"],
        &[
            "a.yml:1:1: unknown key `kernal`; did you mean `kernel`? (known: kernel, init, onboot, onshutdown, services, files, volumes, trust)",
            "a.yml:3:21: expected a string, found a number; put it in quotes",
            "b.yml:1:7: expected a list, found the text `x`",
        ],
    );
    check_mistakes(
        &[
            "files:\n  - {path: ../a, contents: x}\n  - {path: a}\nvolumes: [{name: V}]",
            "init: ['']",
        ],
        &[
            "a.yml:2:12: path `../a` leads nowhere below the root",
            "a.yml:3:5: a file has exactly one of directory, symlink, contents, source, metadata",
            "a.yml:4:18: volume `V` may have a-z, 0-9, _ and - only",
            "b.yml:1:8: `` is no name of an image, like inplace/dhcp or alpine:3.22",
        ],
    );
    // What is read right is checked beside what is not; what may stand in a wrong part is not missed.
    check_mistakes(
        &[
            "services:\n  - {name: s, imge: a, uid: t, net: x}\n  - {name: s, image: a, supervise: {after: [t]}}\n  - {name: 5, image: a}",
        ],
        &[
            "a.yml:2:15: unknown key `imge`; did you mean `image`? (known: name, image, capabilities, capabilities.add, ambient, mounts, binds, binds.add, tmpfs, devices, command, env, cwd, net, ipc, uts, pid, userns, readonly, maskedPaths, readonlyPaths, uid, gid, additionalGids, noNewPrivileges, hostname, oomScoreAdj, rootfsPropagation, cgroupsPath, resources, sysctl, annotations, rlimits, uidMappings, gidMappings, runtime, supervise)",
            "a.yml:4:12: expected a string, found a number; put it in quotes",
            "a.yml:2:37: `net: x` is neither host, root, new, none, nor an absolute path",
            "a.yml:3:12: a second service `s`",
        ],
    );
    check_mistakes(
        &[
            "services:\n  - {name: s, image: a, supervise: {after: [t, u]}}\n  - {name: r, image: a, supervise: {after: [v]}}",
        ],
        &[
            "a.yml:2:36: `after`: unknown service `t` (known: r, s)",
            "a.yml:2:36: `after`: unknown service `u` (known: r, s)",
            "a.yml:3:36: `after`: unknown service `v` (known: r, s)",
        ],
    );
    check_mistakes(&["kernel:\n"], &["a.yml:1:7: expected keys with values, found nothing"]);
    check_mistakes(&["kernel: {cmdline: x}"], &["a.yml:1:19: `kernel` has no `image`"]);
    check_mistakes(&["init: ['@pkg:../pkg/x']"], &["a.yml:1:8: no package lies in /tree/pkg/x"]);
}
