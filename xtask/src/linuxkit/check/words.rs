//! The small languages inside strings: capabilities, binds, limits, image names.

use super::super::spec::{Mount, Rlimit};

/// Linux's capabilities, by number.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Limits that setrlimit(2) knows.
const LIMITS: [&str; 16] = [
    "AS",
    "CORE",
    "CPU",
    "DATA",
    "FSIZE",
    "LOCKS",
    "MEMLOCK",
    "MSGQUEUE",
    "NICE",
    "NOFILE",
    "NPROC",
    "RSS",
    "RTPRIO",
    "RTTIME",
    "SIGPENDING",
    "STACK",
];

/// Adds one word of a list of capabilities; `all` and `none` are words of their own.
///
/// LinuxKit knows those two only where they stand alone, and doubles what is named twice (Q8, Q9).
pub(super) fn capability(word: &str, list: &mut Vec<String>) -> Result<(), String> {
    let mut add = |name: &str| {
        if !list.iter().any(|it| it == name) {
            list.push(name.to_owned());
        }
    };
    match word.to_ascii_lowercase().as_str() {
        "none" => {}
        "all" => CAPABILITIES.into_iter().for_each(&mut add),
        _ if CAPABILITIES.contains(&word) => add(word),
        _ => return Err(hint("capability", word, &CAPABILITIES, "all, none, CAP_...")),
    }
    Ok(())
}

/// `name,soft,hard`.
pub(super) fn rlimit(text: &str) -> Result<Rlimit, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [name, soft, hard] = parts.as_slice() else {
        return Err(format!("limit `{text}` is not NAME,SOFT,HARD, like nofile,1024,4096"));
    };
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
    if !LIMITS.contains(&short) {
        return Err(hint("limit", short, &LIMITS, &LIMITS.join(", ").to_ascii_lowercase()));
    }
    let number = |text: &str| match text.to_ascii_lowercase().as_str() {
        "unlimited" => Ok(u64::MAX),
        _ => text.parse().map_err(|_| format!("`{text}` is neither a number nor `unlimited`")),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(format!("limit `{text}`: the soft one is above the hard one"));
    }
    Ok(Rlimit { r#type: format!("RLIMIT_{short}"), soft, hard })
}

/// `src:dst[:opts]`.
pub(super) fn bind(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [source, destination] => (source, destination, vec!["rw", "rbind", "rshared"]),
        [source, destination, options] => {
            (source, destination, options.split(',').chain(["rbind"]).collect())
        }
        _ => return Err(format!("bind `{text}` is not SOURCE:DESTINATION[:OPTIONS]")),
    };
    Ok(Mount {
        destination: absolute(destination)?,
        r#type: "bind".to_owned(),
        source: (*source).to_owned(),
        options: options.into_iter().map(str::to_owned).collect(),
        ..Mount::default()
    })
}

/// `dst[:opts]`.
pub(super) fn tmpfs(text: &str) -> Result<Mount, String> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    if options.contains(':') {
        return Err(format!("tmpfs `{text}` is not DESTINATION[:OPTIONS]"));
    }
    let options = options.split(',').filter(|it| !it.is_empty()).map(str::to_owned);
    Ok(Mount {
        destination: absolute(destination)?,
        r#type: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options: options.collect(),
        ..Mount::default()
    })
}

/// An octal mode of at most four digits.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let number = u32::from_str_radix(text, 8).ok().filter(|it| *it <= 0o7777);
    number.ok_or_else(|| format!("mode `{text}` is not an octal number like \"0644\""))
}

/// The full name of an image: `alpine` is `docker.io/library/alpine`, no tag is added.
pub(super) fn image(text: &str) -> Result<String, String> {
    let is_right = !text.is_empty()
        && !text.starts_with(['/', '-', ':', '@'])
        && text.bytes().all(|it| it.is_ascii_graphic());
    if !is_right {
        return Err(format!("`{text}` is no name of an image, like inplace/dhcp or alpine:3.22"));
    }
    Ok(match text.split_once('/') {
        None => format!("docker.io/library/{text}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => text.to_owned(),
        Some(_) => format!("docker.io/{text}"),
    })
}

fn absolute(path: &str) -> Result<String, String> {
    let is_absolute = path.starts_with('/');
    is_absolute.then(|| path.to_owned()).ok_or_else(|| format!("`{path}` is no absolute path"))
}

/// Like [`unknown`](crate::yaml::unknown), with a shorter list.
fn hint(what: &str, found: &str, known: &[&str], shown: &str) -> String {
    let text = crate::yaml::unknown(what, found, known);
    let text = text.split(" (known: ").next().unwrap_or_default();
    format!("{text} (known: {shown})")
}
