//! Which system calls a replica may make.
//!
//! A list of what is refused: whatever makes name spaces, mounts, looks into other processes, or
//! reaches parts of the kernel that a function has no business with and that were holes before.
//! A list of what is allowed, tested against every template and build, comes with the appliance.

use serde_json::{Value, json};

/// `CLONE_NEW*` of clone(2): mount, cgroup, UTS, IPC, user, PID and network name spaces.
const NAMESPACES: [u64; 7] =
    [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
/// Address families of socket(2): key, packet, RDS, CAN, TIPC, Bluetooth, ALG, vsock, XDP.
const FAMILIES: [u64; 9] = [15, 17, 21, 29, 30, 31, 38, 40, 44];
/// Refused with EPERM whatever the arguments.
const REFUSED: &[&str] = &[
    // name spaces and mounts
    "chroot",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
    // other processes
    "kcmp",
    "pidfd_getfd",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    // parts of the kernel
    "add_key",
    "bpf",
    "fanotify_init",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "perf_event_open",
    "request_key",
    "userfaultfd",
    // the machine
    "acct",
    "adjtimex",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "vhangup",
];
const ENOSYS: u32 = 38;

/// The profile as the OCI specification has it.
pub(super) fn profile() -> Value {
    let refuse = |names: &[&str], args: Value| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": args });
    let mut rules = vec![refuse(REFUSED, json!([]))];
    rules.extend(NAMESPACES.map(|flag| {
        let arg =
            json!([{ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" }]);
        refuse(&["clone"], arg)
    }));
    rules.extend(FAMILIES.map(|family| {
        refuse(&["socket"], json!([{ "index": 0, "value": family, "op": "SCMP_CMP_EQ" }]))
    }));
    // Its flags lie in memory, where a filter cannot look; without it C libraries use clone.
    rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}
