//! What packets of functions may pass: one file, loaded in one step.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Config;

/// What the rules are made from.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) config: &'a Config,
    /// Where port 53 of the bridge's address leads to.
    pub(super) dns: Option<Ipv4Addr>,
}

impl Rules<'_> {
    /// The file for `nft -f`. A table of ours alone is replaced; nobody else's is touched.
    pub(super) fn text(&self) -> String {
        let Config { bridge, subnet, gateway_port, .. } = self.config;
        let gateway = subnet.gateway();
        let dns = self.dns.map_or(String::new(), |dns| {
            format!(
                r#"
	chain resolve {{
		type nat hook prerouting priority dstnat; policy accept;
		iifname "{bridge}" ip daddr {gateway} udp dport 53 dnat ip to {dns}
		iifname "{bridge}" ip daddr {gateway} tcp dport 53 dnat ip to {dns}
	}}
"#
            )
        });
        format!(
            r#"table inet {bridge}
delete table inet {bridge}
table inet {bridge} {{
	set private {{
		type ipv4_addr; flags interval
		elements = {{ 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16,
			172.16.0.0/12, 192.0.0.0/24, 192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16,
			198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/3 }}
	}}
{dns}
	# to the host: answers to what it asked, the gateway, names
	chain input {{
		type filter hook input priority filter; policy accept;
		iifname != "{bridge}" accept
		ip saddr != {subnet} drop
		ct state established,related accept
		ct status dnat accept
		ip daddr {gateway} tcp dport {gateway_port} accept
		drop
	}}

	# from a function: to the internet, not to other functions, private or metadata addresses
	chain forward {{
		type filter hook forward priority filter; policy accept;
		oifname "{bridge}" ct state established,related accept
		oifname "{bridge}" drop
		iifname != "{bridge}" accept
		ip saddr != {subnet} drop
		ct state established,related accept
		ct status dnat accept
		ip daddr @private drop
		ip version 4 accept
		drop
	}}

	chain leave {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {subnet} oifname != "{bridge}" masquerade
	}}
}}
"#
        )
    }
}

/// Loads a file of rules: all of it, or nothing.
pub(super) async fn load(nft: &Path, text: &str) -> Result<()> {
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting `{}`", nft.display()))?;
    let mut stdin = child.stdin.take().context("nft has no standard input")?;
    stdin.write_all(text.as_bytes()).await.context("writing the rules to nft")?;
    drop(stdin);
    let output = child.wait_with_output().await.context("waiting for nft")?;
    if !output.status.success() {
        bail!("nft refused the rules: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Removes the table, if it is there.
pub(super) async fn unload(nft: &Path, bridge: &str) -> Result<()> {
    load(nft, &format!("table inet {bridge}\ndelete table inet {bridge}\n")).await
}
