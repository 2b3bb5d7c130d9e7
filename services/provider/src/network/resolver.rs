//! Where the host resolves names.

use std::net::Ipv4Addr;

use fs_err as fs;

/// systemd-resolved's list of real nameservers stands behind its own address in the usual file.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The host's first nameserver that can be reached from another network namespace.
pub(super) fn upstream() -> Option<Ipv4Addr> {
    FILES.iter().find_map(|path| first(&fs::read_to_string(path).ok()?))
}

fn first(text: &str) -> Option<Ipv4Addr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse().ok())
        .find(|address: &Ipv4Addr| !address.is_loopback() && !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nameserver_that_is_not_the_host_itself_is_taken() {
        for (text, expected) in [
            ("nameserver 192.0.2.1\nnameserver 192.0.2.2", Some(Ipv4Addr::new(192, 0, 2, 1))),
            ("# c\nnameserver 127.0.0.53\nnameserver  9.9.9.9\n", Some(Ipv4Addr::new(9, 9, 9, 9))),
            ("nameserver ::1\nsearch example", None),
            ("", None),
        ] {
            assert_eq!(first(text), expected, "{text}");
        }
    }
}
