//! An IPv4 subnet.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A subnet of 14 to 65,533 replicas, for example `10.62.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// Length of the prefix, 16 to 28.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first address: the bridge's.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + 1)
    }

    /// Whether it has addresses in common with the subnet of another interface's address.
    pub(super) fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let common = 32 - u32::from(prefix.min(self.prefix).min(32));
        let mask = u32::MAX.checked_shl(common).unwrap_or(0);
        (address.to_bits() ^ self.base) & mask == 0
    }

    /// How many addresses replicas can have.
    pub(super) fn size(self) -> u32 {
        (1 << (32 - u32::from(self.prefix))) - 3 // network, gateway, broadcast
    }

    /// The replicas' address of that number, counted from 0 and below [`size`](Self::size).
    pub(super) fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + 2 + number)
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').ok_or("a subnet is written 10.62.0.0/16")?;
        let address: Ipv4Addr = address.parse().map_err(|_| format!("`{address}` is no IPv4"))?;
        let prefix: u8 = prefix.parse().map_err(|_| format!("`{prefix}` is no prefix"))?;
        if !(16..=28).contains(&prefix) {
            return Err(format!("the prefix is 16 to 28, not {prefix}"));
        }
        let base = address.to_bits() & (u32::MAX << (32 - u32::from(prefix)));
        if base != address.to_bits() {
            let base = Ipv4Addr::from_bits(base);
            return Err(format!("`{text}` has bits behind its prefix; meant is {base}/{prefix}"));
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_subnets_overlap_when_one_holds_the_other() {
        let subnet: Subnet = "10.62.0.0/16".parse().unwrap();
        for (address, prefix, expected) in [
            ([10, 62, 3, 4], 24, true),
            ([10, 62, 0, 1], 16, true),
            ([10, 0, 0, 1], 8, true),
            ([192, 168, 0, 1], 0, true),
            ([10, 63, 0, 1], 16, false),
            ([10, 61, 255, 255], 32, false),
        ] {
            assert_eq!(subnet.overlaps(address.into(), prefix), expected, "{address:?}/{prefix}");
        }
    }

    #[test]
    fn a_subnet_is_read_and_written() {
        let subnet: Subnet = "10.62.0.0/16".parse().unwrap();
        assert_eq!(subnet.to_string(), "10.62.0.0/16");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 62, 0, 1));
        assert_eq!(subnet.size(), 65_533);
        assert_eq!(subnet.address(0), Ipv4Addr::new(10, 62, 0, 2));
        assert_eq!(subnet.address(65_532), Ipv4Addr::new(10, 62, 255, 254));
    }

    #[test]
    fn what_is_no_subnet_is_refused_with_its_reason() {
        for (text, why) in [
            ("10.62.0.0", "is written"),
            ("x/16", "`x` is no IPv4"),
            ("10.62.0.0/x", "`x` is no prefix"),
            ("10.0.0.0/8", "16 to 28, not 8"),
            ("10.62.0.0/31", "16 to 28, not 31"),
            ("10.62.1.0/16", "meant is 10.62.0.0/16"),
        ] {
            let error = text.parse::<Subnet>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
