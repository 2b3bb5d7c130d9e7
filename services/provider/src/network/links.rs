//! Interfaces, addresses and routes over rtnetlink, in the namespace that the socket was opened in.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use futures::TryStreamExt;
use nix::libc;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

/// A replica's only interface, as it sees it.
const INSIDE: &str = "eth0";

#[derive(Debug)]
pub(super) struct Links {
    netlink: Handle,
}

impl Links {
    /// Must be called in a tokio runtime.
    pub(super) fn connect() -> Result<Self> {
        let (connection, netlink, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { netlink })
    }

    /// A bridge of that name with that address, up.
    pub(super) async fn bridge(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let index = match self.find(name).await? {
            Some(link) if is_bridge(&link) => link.header.index,
            Some(_) => bail!("an interface of that name is there and is no bridge"),
            None => {
                self.netlink.link().add(LinkBridge::new(name).build()).execute().await?;
                self.index(name).await?
            }
        };
        let address = IpAddr::V4(address);
        self.netlink.address().add(index, address, prefix).replace().execute().await?;
        self.up(index).await
    }

    /// The IPv4 addresses of all other interfaces, with their prefixes.
    pub(super) async fn addresses_of_others(&self, bridge: &str) -> Result<Vec<(Ipv4Addr, u8)>> {
        let bridge = self.find(bridge).await?.map(|link| link.header.index);
        let mut messages = self.netlink.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = messages.try_next().await? {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            if let Some(address) = address.filter(|_| Some(message.header.index) != bridge) {
                addresses.push((address, message.header.prefix_len));
            }
        }
        Ok(addresses)
    }

    /// A cable from the bridge into the namespace at `namespace`, where it is [`INSIDE`]. Its
    /// port is isolated: frames pass to the bridge itself, never to another replica's port.
    pub(super) async fn veth(&self, name: &str, namespace: &Path, bridge: &str) -> Result<()> {
        let bridge = self.index(bridge).await?;
        let namespace = fs::File::open(namespace)?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(INSIDE)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let veth = LinkVeth::new(name, INSIDE)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(bridge)
            .build();
        self.netlink.link().add(veth).execute().await.context("adding a veth pair")?;
        let index = self.index(name).await?;
        let isolated = LinkBridgePort::new(index).isolated(true).build();
        self.netlink.link().set_port(isolated).execute().await.context("isolating its port")?;
        self.up(index).await
    }

    /// What a replica's namespace needs: `lo`, its address, the way out.
    pub(super) async fn inside(&self, address: Ipv4Addr, prefix: u8, via: Ipv4Addr) -> Result<()> {
        let lo = self.index("lo").await?;
        self.up(lo).await?;
        let index = self.index(INSIDE).await?;
        self.netlink.address().add(index, IpAddr::V4(address), prefix).execute().await?;
        self.up(index).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(via).build();
        self.netlink.route().add(route).execute().await.context("adding the default route")
    }

    /// Removes an interface; one that is not there is fine.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        if let Some(link) = self.find(name).await? {
            match self.netlink.link().del(link.header.index).execute().await {
                // Its other end went with a namespace meanwhile.
                Err(error) if is_no_device(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }

    async fn up(&self, index: u32) -> Result<()> {
        let up = LinkUnspec::new_with_index(index).up().build();
        Ok(self.netlink.link().set(up).execute().await?)
    }

    async fn index(&self, name: &str) -> Result<u32> {
        let link = self.find(name).await?;
        Ok(link.with_context(|| format!("no interface `{name}`"))?.header.index)
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>> {
        let mut links = self.netlink.link().get().match_name(name).execute();
        match links.try_next().await {
            Ok(link) => Ok(link),
            Err(error) if is_no_device(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking for interface `{name}`")),
        }
    }
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}

fn is_no_device(error: &Error) -> bool {
    matches!(error, Error::NetlinkError(message) if message.raw_code() == -libc::ENODEV)
}
