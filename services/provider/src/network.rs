//! The functions' network: a bridge, one network namespace and address per replica, and the rules
//! that keep functions from each other, from the host and from private networks.
//!
//! Everything here can be made again: what is there already is taken as it is. Addresses in use
//! are known from the containers' labels, not from a list that could differ from them.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use tracing::{info, warn};

mod links;
mod namespace;
mod pool;
mod resolver;
mod rules;
mod subnet;

use links::Links;
use pool::Pool;
use rules::Rules;
pub use subnet::Subnet;

use crate::machine::ReplicaId;

/// What a network is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the bridge, at most 15 characters; also the name of the table of rules.
    pub bridge: String,
    /// Addresses of the bridge (the first) and of replicas (the others).
    pub subnet: Subnet,
    /// Folder of the replicas' network namespaces.
    pub namespaces: PathBuf,
    /// Port of the bridge's address that functions may call: the gateway's.
    pub gateway_port: u16,
    /// Where names are resolved; none means the host's first nameserver that is not itself.
    pub dns: Option<Ipv4Addr>,
    /// The `nft` program.
    pub nft: PathBuf,
}

/// The functions' network on this host.
#[derive(Debug)]
pub struct Network {
    config: Config,
    links: Links,
    pool: Mutex<Pool>,
}

/// What a replica has of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its address on the bridge.
    pub address: Ipv4Addr,
    /// Its network namespace, a file to name in the OCI spec.
    pub namespace: PathBuf,
}

impl Network {
    /// Makes the bridge and the rules, or takes over those that are there.
    ///
    /// # Errors
    /// Without the rights to, when `nft` cannot be run, or when another interface has the name or
    /// an address of the subnet.
    pub async fn open(config: Config) -> Result<Self> {
        fs::create_dir_all(&config.namespaces)?;
        let links = Links::connect().context("opening a netlink socket")?;
        let others = links.addresses_of_others(&config.bridge).await?;
        let subnet = config.subnet;
        if let Some((address, prefix)) = others.into_iter().find(|it| subnet.overlaps(it.0, it.1)) {
            bail!(
                "subnet {subnet} overlaps with {address}/{prefix}, an address of this host; choose another one with --subnet"
            );
        }
        links
            .bridge(&config.bridge, config.subnet.gateway(), config.subnet.prefix())
            .await
            .with_context(|| format!("making the bridge `{}`", config.bridge))?;
        without_ipv6(&config.bridge)?;
        let dns = config.dns.or_else(resolver::upstream);
        if dns.is_none() {
            warn!("no nameserver is known: functions cannot resolve names");
        }
        if fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?.trim() != "1" {
            warn!("net.ipv4.ip_forward is 0: functions reach the host and nothing behind it");
        }
        rules::load(&config.nft, &Rules { config: &config, dns }.text()).await?;
        info!(bridge = %config.bridge, subnet = %config.subnet, ?dns, "network is up");
        let pool = Mutex::new(Pool::new(config.subnet));
        Ok(Self { config, links, pool })
    }

    /// Marks an address as taken by a replica that runs.
    pub fn reserve(&self, address: Ipv4Addr) {
        self.lock().reserve(address);
    }

    /// Gives a new replica an address and a network namespace that is ready for use.
    ///
    /// # Errors
    /// When no address is free, or the kernel refuses; then nothing of it is left.
    pub async fn attach(&self, replica: &ReplicaId) -> Result<Attachment> {
        let Some(address) = self.lock().take() else {
            bail!("all addresses of {} are in use", self.config.subnet);
        };
        let namespace = self.namespace(replica);
        let attachment = Attachment { address, namespace };
        match self.connect(&attachment).await {
            Ok(()) => Ok(attachment),
            Err(error) => {
                self.release(replica, address).await;
                Err(error.context(format!("connecting replica {replica} to the network")))
            }
        }
    }

    /// Takes a replica's namespace and address back, once its container is gone. Nothing there to
    /// take is fine.
    pub async fn release(&self, replica: &ReplicaId, address: Ipv4Addr) {
        if let Err(error) = self.links.remove(&host_side(address)).await {
            warn!(%replica, %address, "an interface was not removed: {error:#}");
        }
        if let Err(error) = namespace::remove(&self.namespace(replica)) {
            warn!(%replica, "a network namespace was not removed: {error:#}");
        }
        self.lock().give_back(address);
    }

    /// Removes the namespaces of replicas that are gone, after a crash.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn remove_strays(&self, alive: &HashSet<ReplicaId>) -> Result<()> {
        for entry in fs::read_dir(&self.config.namespaces)? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(ReplicaId::parse);
            if id.is_none_or(|id| !alive.contains(&id)) {
                namespace::remove(&entry.path())?;
                info!(namespace = %entry.path().display(), "removed a stray network namespace");
            }
        }
        Ok(())
    }

    /// Removes bridge and rules. Replicas, if any still run, are cut off.
    ///
    /// # Errors
    /// What was not removed.
    pub async fn remove(&self) -> Result<()> {
        let links = self.links.remove(&self.config.bridge).await;
        rules::unload(&self.config.nft, &self.config.bridge).await?;
        links.context("removing the bridge")
    }

    /// The bridge's address: gateway, nameserver and `gateway.openfaas` of every replica.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.subnet.gateway()
    }

    async fn connect(&self, attachment: &Attachment) -> Result<()> {
        let Attachment { address, namespace } = attachment;
        namespace::create(namespace).await?;
        let name = host_side(*address);
        self.links.remove(&name).await?; // left by a crash
        self.links.veth(&name, namespace, &self.config.bridge).await?;
        without_ipv6(&name)?;
        let (address, gateway) = (*address, self.config.subnet.gateway());
        let prefix = self.config.subnet.prefix();
        namespace::inside(namespace, async move |links| {
            without_ipv6("all")?;
            links.inside(address, prefix, gateway).await
        })
        .await
    }

    fn namespace(&self, replica: &ReplicaId) -> PathBuf {
        self.config.namespaces.join(replica.as_str())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().expect("the pool's methods do not panic")
    }
}

/// Name of the host's end of the replica's cable: unique as long as the address is.
fn host_side(address: Ipv4Addr) -> String {
    format!("ip{:08x}", address.to_bits())
}

/// The rules are about IPv4; there is no IPv6 for functions, and so no way around them.
fn without_ipv6(interface: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    if Path::new(&path).exists() {
        fs::write(path, "1")?;
    }
    Ok(())
}
