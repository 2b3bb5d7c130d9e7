//! Slows whoever guesses: after a few wrong passwords an address has to wait, longer each time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong passwords that cost nothing: people mistype.
pub(super) const FREE: u32 = 5;
/// The wait after the first one that costs; doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait: at most 1,440 guesses a day from one address.
const LONGEST: Duration = Duration::from_secs(60);
/// An address that was quiet for so long starts anew.
const FORGET: Duration = Duration::from_secs(3600);
/// Addresses that are remembered; the one that was quiet longest makes room.
const ADDRESSES: usize = 1024;

/// Counts wrong passwords by address. Without I/O: the caller says what time it is.
#[derive(Debug, Default)]
pub(super) struct Slow {
    addresses: HashMap<IpAddr, Count>,
}

#[derive(Debug)]
struct Count {
    wrong: u32,
    last: Instant,
}

impl Slow {
    /// How long `peer` has to wait before it may try again; none when it may now.
    pub(super) fn wait(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let count = self.addresses.get(&network(peer))?;
        let over = count.wrong.checked_sub(FREE)?;
        let wait = FIRST.saturating_mul(1 << over.min(16)).min(LONGEST);
        (count.last + wait).checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// `peer` gave a wrong password; gives how many it gave so far.
    pub(super) fn wrong(&mut self, peer: IpAddr, now: Instant) -> u32 {
        let peer = network(peer);
        if !self.addresses.contains_key(&peer) && self.addresses.len() >= ADDRESSES {
            self.make_room(now);
        }
        let count = self.addresses.entry(peer).or_insert(Count { wrong: 0, last: now });
        if now.duration_since(count.last) > FORGET {
            count.wrong = 0;
        }
        count.wrong = count.wrong.saturating_add(1);
        count.last = now;
        count.wrong
    }

    /// `peer` gave the right password.
    pub(super) fn right(&mut self, peer: IpAddr) {
        self.addresses.remove(&network(peer));
    }

    fn make_room(&mut self, now: Instant) {
        self.addresses.retain(|_, count| now.duration_since(count.last) <= FORGET);
        if self.addresses.len() < ADDRESSES {
            return;
        }
        let oldest = self.addresses.iter().min_by_key(|(_, count)| count.last);
        if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
            self.addresses.remove(&oldest);
        }
    }
}

/// What one client holds: an IPv4 address, or the /64 that an IPv6 client can choose from.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn waits_begin_after_the_free_ones_and_double_up_to_the_longest() {
        let (mut slow, mut now) = (Slow::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..13 {
            slow.wrong(peer(1), now);
            let wait = slow.wait(peer(1), now).unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(slow.wait(peer(1), now), None, "it may try when its wait is over");
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_address_does_not_slow_another_and_a_right_password_clears_it() {
        let (mut slow, now) = (Slow::default(), Instant::now());
        for _ in 0..FREE {
            slow.wrong(peer(1), now);
        }
        assert!(slow.wait(peer(1), now).is_some());
        assert_eq!(slow.wait(peer(2), now), None);
        slow.right(peer(1));
        assert_eq!(slow.wait(peer(1), now), None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let (mut slow, now) = (Slow::default(), Instant::now());
        for host in 0..FREE {
            slow.wrong(format!("2001:db8::{host}").parse().unwrap(), now);
        }
        assert!(slow.wait("2001:db8::ffff".parse().unwrap(), now).is_some());
        assert_eq!(slow.wait("2001:db8:0:1::1".parse().unwrap(), now), None);
        for _ in 0..FREE {
            slow.wrong("::ffff:10.0.0.1".parse().unwrap(), now);
        }
        assert!(slow.wait("10.0.0.1".parse().unwrap(), now).is_some());
    }

    #[test]
    fn memory_is_bounded_and_the_quietest_address_makes_room() {
        let (mut slow, start) = (Slow::default(), Instant::now());
        for number in 0..3000 {
            slow.wrong(peer(number), start + Duration::from_millis(number.into()));
        }
        assert_eq!(slow.addresses.len(), ADDRESSES);
        assert!(slow.addresses.contains_key(&peer(2999)));
        assert!(!slow.addresses.contains_key(&peer(0)));
    }

    #[test]
    fn an_address_that_was_quiet_for_long_starts_anew() {
        let (mut slow, now) = (Slow::default(), Instant::now());
        for _ in 0..20 {
            slow.wrong(peer(1), now);
        }
        assert_eq!(slow.wrong(peer(1), now + FORGET + Duration::from_secs(1)), 1);
    }
}
