//! Every key of a container, and what it becomes.

use super::*;

/// Checks one value of a service whose yml has `keys` beside name and image.
#[track_caller]
fn check_service(keys: &str, pointer: &str, expected: &Value) {
    let text =
        format!("services:\n  - {{name: s, image: inplace/app, {keys}}}\nvolumes: [{{name: v}}]\n");
    check(&text, &format!("/services/0{pointer}"), expected);
}

#[test]
fn nothing_said_gives_linuxkits_defaults() {
    let plan = planned(&["services: [{name: s, image: inplace/app}]"]);
    let expected = json!({
        "name": "s",
        "image": "docker.io/inplace/app",
        "dir": "/containers/services/s",
        "config": {
            "ociVersion": "1.2.1",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/web"],
                "env": ["PATH=/bin"],
                "cwd": "/srv",
                "capabilities": {},
                "noNewPrivileges": false,
            },
            "root": {"path": "rootfs", "readonly": false},
            "mounts": [
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/proc", "type": "proc", "source": "proc",
                 "options": ["nosuid", "nodev", "noexec", "relatime"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
            ],
            "linux": {"resources": {}, "namespaces": [{"type": "pid"}, {"type": "mount"}]},
        },
        "runtime": {
            "cgroups": [],
            "mounts": [
                {"destination": "/containers/services/s/tmp", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/containers/services/s/tmp", "options": ["remount", "private"]},
                {"destination": "/containers/services/s/rootfs", "type": "overlay", "source": "overlay",
                 "options": ["lowerdir=/containers/services/s/lower",
                             "upperdir=/containers/services/s/tmp/upper",
                             "workdir=/containers/services/s/tmp/work"]},
            ],
            "mkdir": [],
            "interfaces": [],
            "bindNS": {"cgroup": "", "ipc": "", "mnt": "", "net": "", "pid": "", "user": "", "uts": ""},
            "namespace": "",
        },
        "supervise": null,
    });
    assert_eq!(plan["services"][0], expected);
}

#[test]
fn keys_of_the_process_are_read() {
    for (keys, key, expected) in [
        ("command: [/a, b]", "args", json!(["/a", "b"])),
        ("command: []", "args", json!([])),
        ("env: [A=1]", "env", json!(["A=1"])),
        ("cwd: /x", "cwd", json!("/x")),
        (
            "uid: 5, gid: 6, additionalGids: [7, s]",
            "user",
            json!({"uid": 5, "gid": 6, "additionalGids": [7, 100]}),
        ),
        ("uid: s", "user", json!({"uid": 100, "gid": 0})),
        ("uid: root", "user", json!({"uid": 0, "gid": 0})),
        ("noNewPrivileges: true", "noNewPrivileges", json!(true)),
        ("oomScoreAdj: -900", "oomScoreAdj", json!(-900)),
        (
            "rlimits: ['nofile,1,2', 'RLIMIT_CORE, 0, unlimited']",
            "rlimits",
            json!([
                {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX},
            ]),
        ),
        (
            "capabilities: [CAP_SYSLOG, CAP_BPF], ambient: [CAP_CHOWN]",
            "capabilities",
            json!({
                "bounding": ["CAP_BPF", "CAP_CHOWN", "CAP_SYSLOG"],
                "effective": ["CAP_SYSLOG", "CAP_BPF"],
                "inheritable": ["CAP_BPF", "CAP_CHOWN", "CAP_SYSLOG"],
                "permitted": ["CAP_BPF", "CAP_CHOWN", "CAP_SYSLOG"],
                "ambient": ["CAP_CHOWN"],
            }),
        ),
        ("capabilities: [none]", "capabilities", json!({})),
    ] {
        check_service(keys, &format!("/config/process/{key}"), &expected);
    }
    let all = planned(&["services: [{name: s, image: a, capabilities: [all], ambient: [ALL]}]"]);
    let capabilities = &all["services"][0]["config"]["process"]["capabilities"];
    assert_eq!(capabilities["bounding"].as_array().map(Vec::len), Some(41));
    assert_eq!(capabilities["ambient"].as_array().map(Vec::len), Some(41));
}

#[test]
fn keys_of_the_machine_around_it_are_read() {
    for (keys, key, expected) in [
        ("readonly: true", "root", json!({"path": "rootfs", "readonly": true})),
        ("hostname: h", "hostname", json!("h")),
        ("annotations: {a: b}", "annotations", json!({"a": "b"})),
        ("sysctl: {net.core.somaxconn: '1'}", "linux/sysctl", json!({"net.core.somaxconn": "1"})),
        ("cgroupsPath: /c", "linux/cgroupsPath", json!("/c")),
        ("rootfsPropagation: shared", "linux/rootfsPropagation", json!("shared")),
        ("maskedPaths: [/m]", "linux/maskedPaths", json!(["/m"])),
        ("readonlyPaths: [/r]", "linux/readonlyPaths", json!(["/r"])),
        (
            "devices: [{path: /dev/x, type: c, major: 1, minor: 3, mode: '0666'}]",
            "linux/devices",
            json!([
                {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
            ]),
        ),
        (
            "devices: [{path: /dev/x, type: b, major: 1, minor: 3}]",
            "linux/resources/devices",
            json!([
                {"allow": true, "type": "b", "major": 1, "minor": 3, "access": "rwm"},
            ]),
        ),
        ("net: new", "linux/namespaces/0", json!({"type": "network"})),
        ("net: none", "linux/namespaces/0", json!({"type": "network"})),
        (
            "net: /run/netns/a",
            "linux/namespaces/0",
            json!({"type": "network", "path": "/run/netns/a"}),
        ),
        ("ipc: new, pid: host", "linux/namespaces", json!([{"type": "ipc"}, {"type": "mount"}])),
        ("uts: new, pid: root", "linux/namespaces", json!([{"type": "uts"}, {"type": "mount"}])),
        ("net: host, pid: /p", "linux/namespaces/0", json!({"type": "pid", "path": "/p"})),
        ("userns: new", "linux/namespaces/1", json!({"type": "user"})),
    ] {
        check_service(keys, &format!("/config/{key}"), &expected);
    }
}

#[test]
fn mounts_are_whole_sorted_and_replace_what_was_there() {
    let mounts = |keys: &str| {
        let text = format!("services: [{{name: s, image: a, {keys}}}]\nvolumes: [{{name: v}}]");
        planned(&[&text])["services"][0]["config"]["mounts"].as_array().unwrap().clone()
    };
    for (keys, expected) in [
        (
            "tmpfs: ['/t:size=1m,ro']",
            json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "ro"]}),
        ),
        ("tmpfs: ['/t']", json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs"})),
        (
            "binds: ['/a:/t']",
            json!({"destination": "/t", "type": "bind", "source": "/a", "options": ["rw", "rbind", "rshared"]}),
        ),
        (
            "binds: ['/a:/t:ro']",
            json!({"destination": "/t", "type": "bind", "source": "/a", "options": ["ro", "rbind"]}),
        ),
        (
            "binds.add: ['/a:/t:ro']",
            json!({"destination": "/t", "type": "bind", "source": "/a", "options": ["ro", "rbind"]}),
        ),
        (
            "binds: ['v:/t:rw']",
            json!({"destination": "/t", "type": "bind", "source": "/containers/volumes/v/merged", "options": ["rw", "rbind"]}),
        ),
        (
            "mounts: [{type: ext4, source: /dev/sda, destination: /t}]",
            json!({"destination": "/t", "type": "ext4", "source": "/dev/sda"}),
        ),
        (
            "mounts: [{source: mqueue, options: [ro]}]",
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["ro"]}),
        ),
        (
            "mounts: [{type: sysfs}]",
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}),
        ),
        (
            "mounts: [{destination: /dev, source: x}]",
            json!({"destination": "/dev", "type": "tmpfs", "source": "x"}),
        ),
        (
            "mounts: [{type: bind, source: /a, destination: /t, uidmappings: [{containerID: 0, hostID: 5, size: 1}]}]",
            json!({"destination": "/t", "type": "bind", "source": "/a", "uidMappings": [{"containerID": 0, "hostID": 5, "size": 1}]}),
        ),
        (
            "supervise: {data: ['d:/t:rw,rshared']}",
            json!({"destination": "/t", "type": "bind", "source": "/data/d", "options": ["rbind", "rw", "rshared"]}),
        ),
        ("tmpfs: ['/proc']", json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"})),
    ] {
        let mounts = mounts(keys);
        let place = &expected["destination"];
        let found: Vec<&Value> = mounts.iter().filter(|it| it["destination"] == *place).collect();
        assert_eq!(found, [&expected], "{keys}");
        assert!(mounts.is_sorted_by_key(|it| it["destination"].as_str().unwrap()), "{keys}");
    }
}

#[test]
fn a_read_only_container_has_a_bound_root_and_read_only_kernel_folders() {
    check_service(
        "readonly: true",
        "/runtime/mounts",
        &json!([
            {"destination": "/containers/services/s/rootfs", "source": "/containers/services/s/rootfs", "options": ["bind"]},
        ]),
    );
    check_service("readonly: true", "/config/mounts/0/options/4", &json!("ro"));
    check_service("readonly: true", "/config/mounts/3/options/3", &json!("ro"));
}

#[test]
fn keys_of_runtime_are_read() {
    for (keys, key, expected) in [
        ("cgroups: [a]", "cgroups", json!(["a"])),
        ("mkdir: [/a]", "mkdir", json!(["/a"])),
        ("namespace: n", "namespace", json!("n")),
        ("bindNS: {net: /n}", "bindNS/net", json!("/n")),
        (
            "mounts: [{type: bind, source: /a, destination: b}]",
            "mounts/3",
            json!({"destination": "b", "type": "bind", "source": "/a"}),
        ),
        (
            "interfaces: [{name: a, add: veth, peer: b, createInRoot: true}]",
            "interfaces",
            json!([
                {"name": "a", "add": "veth", "peer": "b", "createInRoot": true},
            ]),
        ),
    ] {
        check_service(&format!("runtime: {{{keys}}}"), &format!("/runtime/{key}"), &expected);
    }
}

#[test]
fn an_image_is_unpacked_once() {
    let plan = planned(&["onboot: [{name: a, image: x}, {name: b, image: x}]"]);
    let options = &plan["onboot"][1]["runtime"]["mounts"][2]["options"];
    assert_eq!(options[0], "lowerdir=/containers/onboot/000-a/lower");
    assert_eq!(options[1], "upperdir=/containers/onboot/001-b/tmp/upper");
}

#[test]
fn mistakes_in_a_container_name_the_word_and_the_way_out() {
    for (keys, expected) in [
        (
            "capabilities: [CAP_NET_ADMN]",
            "a.yml:1:51: unknown capability `CAP_NET_ADMN`; did you mean `CAP_NET_ADMIN`? (known: all, none, CAP_...)",
        ),
        ("binds: [/a]", "a.yml:1:44: bind `/a` is not SOURCE:DESTINATION[:OPTIONS]"),
        ("binds: ['/a:b:ro']", "a.yml:1:44: `b` is no absolute path"),
        ("binds: ['vv:/b:ro']", "a.yml:1:44: unknown volume `vv` (known: v)"),
        ("tmpfs: ['/a:b:c']", "a.yml:1:44: tmpfs `/a:b:c` is not DESTINATION[:OPTIONS]"),
        ("mounts: [{destination: /x}]", "a.yml:1:45: the mount at `/x` has no `type`"),
        ("mounts: [{type: ext4}]", "a.yml:1:45: the mount of type `ext4` has no `destination`"),
        (
            "net: bridge",
            "a.yml:1:41: `net: bridge` is neither host, root, new, none, nor an absolute path",
        ),
        ("pid: none", "a.yml:1:41: `pid: none` is neither host, root, new, nor an absolute path"),
        ("uid: nobody", "a.yml:1:41: unknown container `nobody` (known: s)"),
        (
            "uid: 1.5",
            "a.yml:1:41: expected a number from 0 to 4294967295 or the name of a container, found floating point `1.5`",
        ),
        ("oomScoreAdj: 2000", "a.yml:1:49: oomScoreAdj 2000 is not from -1000 to 1000"),
        ("oomScoreAdj: '5'", "a.yml:1:49: expected i64, found the text `5`"),
        ("readonly: yes", "a.yml:1:46: expected true or false, found the text `yes`"),
        (
            "supervise: {restart: sometimes}",
            "a.yml:1:57: unknown word `sometimes` (known: always, on-failure, never)",
        ),
        (
            "supervise: {redy: {}}",
            "a.yml:1:48: unknown key `redy`; did you mean `ready`? (known: runtime, after, restart, ready, health, stop, start, idle, data, critical, failed)",
        ),
        (
            "supervise: {ready: {http: x}}",
            "a.yml:1:62: `x` is neither unix:/run/x.sock:/healthz nor http://127.0.0.1:80/ (an address, no name)",
        ),
        (
            "supervise: {idle: 5m}",
            "a.yml:1:47: `idle` stops a service that starts at boot for good: add `start: on-demand`",
        ),
        ("supervise: {failed: halt}", "a.yml:1:47: `failed` means nothing in `services`"),
        ("supervise: {after: [t]}", "a.yml:1:47: `after`: unknown service `t` (known: s)"),
        ("supervise: {after: [s]}", "a.yml:1:47: services wait for each other: s after s"),
    ] {
        let text = format!("services: [{{name: s, image: b/app, {keys}}}]\nvolumes: [{{name: v}}]");
        check_mistakes(&[&text], &[expected]);
    }
}
