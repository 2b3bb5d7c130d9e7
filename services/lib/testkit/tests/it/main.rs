//! The real daemons start in a cell, are used, and leave nothing behind.

use std::process::Command;

use nix::sys::signal::Signal;
use testkit::{Daemon, Host};

fn ctr(host: &Host) -> Command {
    let mut ctr = Command::new(host.tools().tool("ctr"));
    ctr.arg("-a").arg(host.socket(Daemon::Containerd)).args(["-n", "functions"]);
    ctr
}

#[test]
fn both_daemons_answer_in_a_cell_and_nothing_is_left_of_them() {
    let host = Host::start(&[Daemon::Containerd, Daemon::Buildkitd]).unwrap();
    assert!(ctr(&host).arg("version").status().unwrap().success());
    let workers = Command::new(host.tools().tool("buildctl"))
        .arg("--addr")
        .arg(format!("unix://{}", host.socket(Daemon::Buildkitd).display()))
        .args(["debug", "workers"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&workers.stdout).contains("linux/amd64"), "{workers:?}");

    let dir = host.dir().to_owned();
    let pids = [host.pid(Daemon::Containerd).unwrap(), host.pid(Daemon::Buildkitd).unwrap()];
    drop(host);
    assert!(!dir.exists());
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }
    let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
}

#[test]
fn a_daemon_is_killed_and_started_again() {
    let mut host = Host::start(&[Daemon::Containerd]).unwrap();
    let status = host.stop_daemon(Daemon::Containerd, Signal::SIGKILL).unwrap();
    assert!(!status.success());
    assert!(!ctr(&host).arg("version").output().unwrap().status.success());
    host.start_daemon(Daemon::Containerd).unwrap();
    assert!(ctr(&host).arg("version").status().unwrap().success());
}

#[test]
fn the_cell_has_a_network_of_its_own_that_forwards() {
    let host = Host::start(&[]).unwrap();
    let links = host.cell().command("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert_eq!(links.lines().count(), 1, "{links}");
    let forward = host.cell().command("cat").arg("/proc/sys/net/ipv4/ip_forward").output().unwrap();
    assert_eq!(forward.stdout, b"1\n");
}
