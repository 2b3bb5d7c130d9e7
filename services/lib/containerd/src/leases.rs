//! Leases: what holds content and snapshots while they are being made.
//!
//! The garbage collector removes all that no image, container or lease refers to. A lease is
//! released when its work is done; if its owner dies, it expires.

use std::time::Duration;

use containerd_client::services::v1::{AddResourceRequest, CreateRequest, DeleteRequest, Resource};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::warn;

use crate::client::{Client, op, unique};
use crate::error::{Error, Result};
use crate::snapshots::SNAPSHOTTER;

/// The label that tells the garbage collector when a lease ends by itself (RFC 3339).
const EXPIRE: &str = "containerd.io/gc.expire";

/// Holds all that is written through it, until it is released, dropped or expires.
///
/// Its methods are in the files of what they write: [`content`](crate::content),
/// [`images`](crate::images), [`snapshots`](crate::snapshots), [`commit`](crate::commit).
#[derive(Debug)]
pub struct Lease {
    id: String,
    /// Sends the lease's header with every request.
    client: Client,
    released: bool,
}

impl Client {
    /// Takes a lease that ends by itself after `life`. `purpose` goes into its name, for whoever
    /// reads a list of leases.
    ///
    /// # Errors
    /// As every call.
    pub async fn lease(&self, purpose: &str, life: Duration) -> Result<Lease> {
        let id = unique(purpose);
        let expire = expiry(OffsetDateTime::now_utc(), life)?;
        let labels = [(EXPIRE.to_owned(), expire)].into();
        let request = CreateRequest { id: id.clone(), labels };
        // The guard comes first: a call that is given up may still have made the lease.
        let lease = Lease { client: self.with_lease(&id)?, id, released: false };
        op("creating lease", &lease.id).run(self.leases_rpc().create(request)).await?;
        Ok(lease)
    }
}

impl Lease {
    /// Ends the lease. What nothing else refers to by now is garbage.
    ///
    /// # Errors
    /// As every call; the lease then expires by itself.
    pub async fn release(mut self) -> Result<()> {
        self.released = true;
        delete(&self.client, &self.id).await
    }

    /// Ends the lease after its work and passes on the work's result: a lease that cannot be
    /// released is no reason to fail, it expires.
    pub(crate) async fn finish<T>(self, result: Result<T>) -> Result<T> {
        if let Err(error) = self.release().await {
            warn!(error = &error as &dyn std::error::Error, "lease not released, it will expire");
        }
        result
    }

    /// Makes the lease hold a snapshot that is there already.
    pub(crate) async fn hold_snapshot(&self, name: &str) -> Result<()> {
        let kind = format!("snapshots/{SNAPSHOTTER}");
        let resource = Resource { id: name.to_owned(), r#type: kind };
        let request = AddResourceRequest { id: self.id.clone(), resource: Some(resource) };
        op("holding snapshot", name).run(self.client.leases_rpc().add_resource(request)).await?;
        Ok(())
    }

    /// The client whose requests carry the lease.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

/// Best effort for work that was given up in the middle; the label is for when this fails too.
impl Drop for Lease {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.released {
            let (client, id) = (self.client.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move { delete(&client, &id).await });
        }
    }
}

async fn delete(client: &Client, id: &str) -> Result<()> {
    let request = DeleteRequest { id: id.to_owned(), sync: false };
    op("deleting lease", id).run(client.leases_rpc().delete(request)).await?;
    Ok(())
}

fn expiry(now: OffsetDateTime, life: Duration) -> Result<String> {
    time::Duration::try_from(life)
        .ok()
        .and_then(|life| now.checked_add(life))
        .and_then(|end| end.replace_nanosecond(0).ok()?.format(&Rfc3339).ok())
        .ok_or_else(|| Error::invalid(format!("life of a lease {life:?}"), "it is too long"))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_expiry_is_a_time_that_containerd_reads() {
        let now = datetime!(2026-01-31 23:59:30.5 UTC);
        assert_eq!(expiry(now, Duration::from_secs(60)).unwrap(), "2026-02-01T00:00:30Z");
        assert!(expiry(now, Duration::MAX).is_err());
    }
}
