//! LinuxKit's quirks by their numbers: what is copied, put right, warned of or refused.

use super::*;

#[test]
fn q1_the_owner_of_a_file_is_its_own() {
    let plan = planned(&[
        "files: [{path: etc/x/y, contents: z, mode: '0640', uid: a}]\nservices: [{name: a, image: b}]",
    ]);
    assert_eq!(plan["files"].as_array().map(Vec::len), Some(1));
    assert_eq!(plan["files"][0]["uid"], 100);
}

#[test]
fn q2_a_volume_in_mounts_becomes_its_path() {
    let text = "services: [{name: s, image: b, mounts: [{type: bind, source: v, destination: /d}]}]\nvolumes: [{name: v}]";
    let plan = planned(&[text]);
    let mounts = plan["services"][0]["config"]["mounts"].as_array().unwrap();
    let found = mounts.iter().find(|it| it["destination"] == "/d").unwrap();
    assert_eq!(found["source"], "/containers/volumes/v/merged");
}

#[test]
fn q3_volumes_of_all_files_are_known_and_unique() {
    let second = "services: [{name: s, image: b, binds: ['v:/d:rw']}]";
    assert_eq!(planned(&["volumes: [{name: v}]", second])["volumes"][0]["name"], "v");
    check_mistakes(
        &["volumes: [{name: v}]", "volumes: [{name: v}]"],
        &["b.yml:1:18: a second volume `v`"],
    );
}

#[test]
fn q6_no_limit_is_lost() {
    let limits = "{devices: [{allow: false, access: rwm}], \
        memory: {limit: 1, reservation: 2, swap: 3, kernel: 4, kernelTCP: 5, swappiness: 6, disableOOMKiller: true}, \
        cpu: {shares: 1, quota: 2, period: 3, realtimeRuntime: 4, realtimePeriod: 5, cpus: '0', mems: '1'}, \
        pids: {limit: 9}, \
        blockio: {weight: 1, leafWeight: 2, weightDevice: [{major: 8, minor: 0, weight: 1, leafWeight: 2}], \
          throttleReadBpsDevice: [{major: 8, minor: 0, rate: 1}], throttleWriteBpsDevice: [{major: 8, minor: 0, rate: 2}], \
          throttleReadIOPSDevice: [{major: 8, minor: 0, rate: 3}], throttleWriteIOPSDevice: [{major: 8, minor: 0, rate: 4}]}, \
        hugepageLimits: [{pageSize: 2MB, limit: 1}], \
        network: {classID: 7, priorities: [{name: eth0, priority: 1}]}}";
    let expected = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 1, "reservation": 2, "swap": 3, "kernel": 4, "kernelTCP": 5, "swappiness": 6, "disableOOMKiller": true},
        "cpu": {"shares": 1, "quota": 2, "period": 3, "realtimeRuntime": 4, "realtimePeriod": 5, "cpus": "0", "mems": "1"},
        "pids": {"limit": 9},
        "blockIO": {
            "weight": 1, "leafWeight": 2,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 1, "leafWeight": 2}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 1}]},
    });
    let text = format!("services: [{{name: s, image: b, resources: {limits}}}]");
    check(&text, "/services/0/config/linux/resources", &expected);
}

#[test]
fn q7_id_mappings_are_read() {
    let maps = "uidMappings: [{containerID: 1, hostID: 2, size: 3}], gidMappings: [{containerID: 4, hostID: 5, size: 6}]";
    let text = format!("services: [{{name: s, image: b, {maps}}}]");
    let linux = "/services/0/config/linux";
    check(
        &text,
        &format!("{linux}/uidMappings"),
        &json!([{"containerID": 1, "hostID": 2, "size": 3}]),
    );
    check(
        &text,
        &format!("{linux}/gidMappings"),
        &json!([{"containerID": 4, "hostID": 5, "size": 6}]),
    );
}

#[test]
fn q8_q9_all_may_stand_beside_others_and_nothing_is_doubled() {
    let effective = |words: &str| {
        let text = format!("services: [{{name: s, image: b, capabilities.add: {words}}}]");
        let plan = planned(&[&text]);
        plan["services"][0]["config"]["process"]["capabilities"]["effective"].clone()
    };
    assert_eq!(effective("[all, CAP_BPF]").as_array().map(Vec::len), Some(41));
    assert_eq!(effective("[CAP_BPF, CAP_BPF]"), json!(["CAP_BPF"]));
}

#[test]
fn q10_all_devices_of_one_number_are_not_all_devices() {
    let text = "services: [{name: s, image: b, devices: [{path: all, type: c, major: 13}]}]";
    let expected = json!([{"allow": true, "type": "c", "major": 13, "access": "rwm"}]);
    check(text, "/services/0/config/linux/resources/devices", &expected);
    check(text, "/services/0/config/linux/devices", &Value::Null);
}

#[test]
fn q11_a_device_has_a_default_mode_and_an_unknown_limit_is_named() {
    let text =
        "services: [{name: s, image: b, devices: [{path: /dev/x, type: c, major: 1, minor: 2}]}]";
    check(text, "/services/0/config/linux/devices/0/fileMode", &json!(0o600));
    check_mistakes(
        &["services:\n- name: s\n  image: b\n  rlimits: ['nofiles,1,2', 'core,5,1', nofile]"],
        &[
            "a.yml:4:13: unknown limit `NOFILES`; did you mean `NOFILE`? (known: as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack)",
            "a.yml:4:28: limit `core,5,1`: the soft one is above the hard one",
            "a.yml:4:40: limit `nofile` is not NAME,SOFT,HARD, like nofile,1024,4096",
        ],
    );
}

#[test]
fn q12_q13_q19_q21_are_accepted_with_a_warning() {
    for (text, expected) in [
        (
            "services:\n- {name: s, image: inplace/web}",
            "a.yml:2:20: the image's user `1000` has no effect, as in LinuxKit: set `uid`",
        ),
        (
            "trust: {org: [a], image: [b]}",
            "a.yml:1:8: `trust` has no effect, as in LinuxKit: images are pinned by digest",
        ),
        (
            "files:\n- {path: a, source: b}",
            "a.yml:2:21: `source` is relative to the working directory, as in LinuxKit",
        ),
        (
            "onboot:\n- {name: s, image: b, binds: ['/a:/b']}",
            "a.yml:2:31: a bind without options is rshared: a mount made in the container appears on the machine",
        ),
        (
            "onboot:\n- {name: s, image: b, runtime: {namespace: n}}",
            "a.yml:2:44: `namespace` is containerd's, which starts services only",
        ),
        (
            "onboot:\n- {name: s, image: b, userns: new}",
            "a.yml:2:31: `userns` is passed on; LinuxKit calls it not yet supported",
        ),
        (
            "onboot:\n- {name: s, image: b, capabilities: [], capabilities.add: [all]}",
            "a.yml:2:60: `capabilities.add` has no effect beside `capabilities`",
        ),
    ] {
        check_warnings(text, &[expected]);
    }
    check_warnings("services: [{name: s, image: inplace/web, uid: 1000}]", &[]);
}

#[test]
fn q16_a_read_only_volume_is_bound_read_only() {
    let text = |options: &str| {
        format!(
            "services:\n- {{name: s, image: b, binds: ['v:/d:{options}']}}\nvolumes: [{{name: v, readonly: true}}]"
        )
    };
    assert_eq!(planned(&[&text("ro")])["volumes"][0]["readonly"], true);
    check_mistakes(&[&text("rw")], &["a.yml:2:31: volume `v` is read-only: add the option `ro`"]);
}

#[test]
fn q22_names_that_are_paths_are_refused_and_names_of_services_are_unique() {
    check_mistakes(
        &["onboot:\n- {name: ../x, image: b}\n- {name: '', image: b}\n- {image: b}\n- {name: y}"],
        &[
            "a.yml:2:10: name `../x` is not of a-z, 0-9, `_`, `.`, `-` with a letter or digit first (at most 64)",
            "a.yml:3:10: name `` is not of a-z, 0-9, `_`, `.`, `-` with a letter or digit first (at most 64)",
            "a.yml:4:3: key `name` is missing",
            "a.yml:5:3: key `image` is missing",
        ],
    );
    check_mistakes(
        &["services: [{name: s, image: b}]", "services: [{name: s, image: b}]"],
        &["b.yml:1:19: a second service `s`"],
    );
}

#[test]
fn names_in_ids_are_numbers_of_containers_and_of_two_the_last_counts() {
    let text = "onboot: [{name: a, image: b}, {name: a, image: b}]\nonshutdown: [{name: c, image: b}]\nservices: [{name: d, image: b, uid: a, gid: c}]";
    check(text, "/services/0/config/process/user", &json!({"uid": 101, "gid": 102}));
}

#[test]
fn q23_what_is_no_yaml_is_refused_at_its_place() {
    let mistakes = plan(&sources(&["init: [a\nservices: {"]), &packages()).unwrap_err();
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes[0].starts_with("a.yml:2:"), "{}", mistakes[0]);
}
