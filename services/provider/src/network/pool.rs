//! Which addresses replicas have.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::Subnet;

/// Gives addresses out in turn, so that one that was given back rests for as long as it can:
/// a late packet or a stale route then meets nobody rather than somebody else.
#[derive(Debug)]
pub(super) struct Pool {
    subnet: Subnet,
    used: BTreeSet<Ipv4Addr>,
    next: u32,
}

impl Pool {
    pub(super) fn new(subnet: Subnet) -> Self {
        Self { subnet, used: BTreeSet::new(), next: 0 }
    }

    pub(super) fn reserve(&mut self, address: Ipv4Addr) {
        self.used.insert(address);
    }

    /// A free address; none when all are in use.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        let size = self.subnet.size();
        let mut numbers = (0..size).map(|ahead| (self.next + ahead) % size);
        let number = numbers.find(|&it| !self.used.contains(&self.subnet.address(it)))?;
        let address = self.subnet.address(number);
        self.next = (number + 1) % size;
        self.used.insert(address);
        Some(address)
    }

    pub(super) fn give_back(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_rest_before_they_are_given_again() {
        let mut pool = Pool::new("10.0.0.0/28".parse().unwrap());
        let last = |address: Option<Ipv4Addr>| address.map(|it| it.octets()[3]);
        pool.reserve(Ipv4Addr::new(10, 0, 0, 3));
        assert_eq!(last(pool.take()), Some(2));
        assert_eq!(last(pool.take()), Some(4));
        pool.give_back(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(last(pool.take()), Some(5));
        let rest: Vec<_> = std::iter::from_fn(|| last(pool.take())).collect();
        assert_eq!(rest, [6, 7, 8, 9, 10, 11, 12, 13, 14, 2]);
        pool.give_back(Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(last(pool.take()), Some(9));
        assert_eq!(pool.take(), None);
    }
}
