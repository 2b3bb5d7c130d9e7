//! The files of replicas in `RUN`, and where their folders of `STATE` are.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use tracing::warn;

use super::{Launch, Replicas, seed, spec};
use crate::machine::ReplicaId;

impl Replicas {
    /// Removes what is left of replicas that are not `alive`, after a crash.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn remove_strays(&self, alive: &HashSet<ReplicaId>) -> Result<()> {
        self.network.remove_strays(alive)?;
        for part in ["replicas", "etc", "mounts"] {
            for entry in fs::read_dir(self.run.join(part))? {
                let name = entry?.file_name();
                let id = name.to_str().and_then(ReplicaId::parse);
                if let Some(id) = id.filter(|id| !alive.contains(id)) {
                    self.remove_files(&id);
                }
            }
        }
        Ok(())
    }

    /// Makes the folder that a replica shares with us, and the files that it reads.
    pub(super) fn files(
        &self,
        launch: &Launch,
        address: Ipv4Addr,
        user: spec::User,
    ) -> Result<spec::Binds> {
        let Launch { replica, function, version, .. } = launch;
        let run = self.folder(replica);
        fs::create_dir_all(&run)?;
        let versions = Path::new(api::switch::VERSIONS_DIR);
        std::os::unix::fs::symlink(versions.join(version.to_string()), run.join("source"))
            .with_context(|| format!("linking the source in `{}`", run.display()))?;
        std::os::unix::fs::lchown(run.join("source"), Some(user.uid), Some(user.gid))?;
        std::os::unix::fs::chown(&run, Some(user.uid), Some(user.gid))?;
        let volume = self.state.join("volumes").join(function.to_string());
        if !volume.exists() {
            fs::create_dir(&volume)?;
            std::os::unix::fs::chown(&volume, Some(user.uid), Some(user.gid))?;
        }
        let etc = self.run.join("etc").join(replica.as_str());
        fs::create_dir_all(&etc)?;
        let (hosts, resolv_conf) = (etc.join("hosts"), etc.join("resolv.conf"));
        let (name, gateway) = (function.name(), self.network.gateway());
        fs::write(
            &hosts,
            format!(
                "127.0.0.1 localhost\n{address} {name}\n\
                 {gateway} gateway gateway.openfaas gateway.openfaas.svc.cluster.local\n"
            ),
        )?;
        fs::write(&resolv_conf, format!("nameserver {gateway}\n"))?;
        let versions = self.state.join("versions").join(function.to_string());
        Ok(spec::Binds { versions, run, volume, hosts, resolv_conf })
    }

    pub(super) async fn seed(
        &self,
        launch: &Launch,
        mounts: Vec<containerd::snapshots::Mount>,
    ) -> Result<()> {
        let folder = self.run.join("mounts").join(launch.replica.as_str());
        fs::create_dir_all(&folder)?;
        let source = PathBuf::from(&launch.source);
        let done = seed::link(mounts, folder.clone(), source, api::switch::SOURCE_LINK).await;
        fs::remove_dir(&folder)?;
        done
    }

    pub(super) fn remove_files(&self, replica: &ReplicaId) {
        for part in ["replicas", "etc", "mounts"] {
            let path = self.run.join(part).join(replica.as_str());
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    warn!(%replica, "a replica's files were not removed: {error}");
                }
                _ => {}
            }
        }
    }

    pub(super) fn folder(&self, replica: &ReplicaId) -> PathBuf {
        self.run.join("replicas").join(replica.as_str())
    }
}
