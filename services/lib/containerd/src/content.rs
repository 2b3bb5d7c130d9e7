//! Blobs: written as a stream under a lease, verified by containerd, read with a limit.

use std::time::Duration;

use containerd_client::services::v1::{
    AbortRequest, Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction,
    WriteContentRequest,
};
use prost_types::FieldMask;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::client::{Client, Op, op, unique};
use crate::error::{Error, Result};
use crate::{Labels, Lease, sha256};

/// The label in which containerd keeps the digest of a layer's uncompressed bytes.
pub(crate) const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Size of one message of a write: far below containerd's limit of 16 MiB.
const PIECE: usize = 1 << 20;
/// How long one step of a write may take; the last one flushes the whole blob to the disk.
const STEP_LIMIT: Duration = Duration::from_secs(300);

/// What the store knows of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:...`.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
    /// Labels; those that begin with `containerd.io/gc.ref.` hold what they name.
    pub labels: Labels,
}

impl Client {
    /// What the store knows of a blob.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there.
    pub async fn blob(&self, digest: &str) -> Result<Blob> {
        let op = op("looking up blob", digest);
        let request = InfoRequest { digest: digest.to_owned() };
        let info = op.field(op.run(self.content_rpc().info(request)).await?.info, "info")?;
        let size = u64::try_from(info.size).unwrap_or_default();
        Ok(Blob { digest: info.digest, size, labels: info.labels })
    }

    /// Reads a whole blob of at most `limit` bytes, and checks its digest.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] when it is larger, or damaged on the disk.
    pub async fn read_blob(&self, digest: &str, limit: usize) -> Result<Vec<u8>> {
        let op = op("reading blob", digest);
        let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut stream = op.run(self.content_rpc().read(request)).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = op.wait(stream.message()).await? {
            if bytes.len() + piece.data.len() > limit {
                let why = format!("it is larger than {limit} bytes");
                return Err(Error::invalid(format!("blob {digest}"), why));
            }
            bytes.extend_from_slice(&piece.data);
        }
        let actual = sha256(&bytes);
        if actual != digest {
            let why = format!("its bytes in the store have the digest {actual}");
            return Err(Error::invalid(format!("blob {digest}"), why));
        }
        Ok(bytes)
    }

    /// Sets labels of a blob, and leaves its other labels alone.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the blob is not there.
    pub async fn label_blob(&self, digest: &str, labels: Labels) -> Result<()> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Info { digest: digest.to_owned(), labels, ..Info::default() };
        let request = UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
        op("labelling blob", digest).run(self.content_rpc().update(request)).await?;
        Ok(())
    }
}

impl Lease {
    /// Writes a small blob and returns its digest. One that is there already gets the labels.
    ///
    /// # Errors
    /// As every call.
    pub async fn write_bytes(&self, bytes: &[u8], labels: Labels) -> Result<String> {
        let digest = sha256(bytes);
        self.write_blob(&digest, bytes.len() as u64, bytes, labels, &|_| ()).await?;
        Ok(digest)
    }

    /// Writes a blob of `size` bytes from `reader`, a piece at a time; `progress` is told how many
    /// bytes containerd has taken. One that is there already is not sent again, it gets the labels.
    ///
    /// # Errors
    /// [`Error::Invalid`], and nothing is kept, when the bytes are not those of `digest` or not
    /// `size` many.
    pub async fn write_blob(
        &self,
        digest: &str,
        size: u64,
        reader: impl AsyncRead + Unpin,
        labels: Labels,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let write = Write {
            reference: unique("write"),
            digest,
            size: i64::try_from(size)
                .map_err(|_| Error::invalid(format!("blob {digest}"), "it is too large"))?,
            op: op("writing blob", digest).within(STEP_LIMIT),
        };
        match self.stream_blob(&write, reader, &labels, progress).await {
            Err(Error::AlreadyExists { .. }) if labels.is_empty() => {}
            Err(Error::AlreadyExists { .. }) => self.client().label_blob(digest, labels).await?,
            Err(error) => {
                // Best effort: what stays of it ends with the lease.
                let request = AbortRequest { r#ref: write.reference };
                let _ = op("aborting write of", digest)
                    .run(self.client().content_rpc().abort(request))
                    .await;
                return Err(match error {
                    Error::Failed { source, .. } if source.code == Code::FailedPrecondition => {
                        Error::invalid(format!("blob {digest}"), source.message)
                    }
                    error => error,
                });
            }
            Ok(()) => {}
        }
        progress(size);
        Ok(())
    }

    /// Sends and listens at the same time: containerd answers every message.
    async fn stream_blob(
        &self,
        write: &Write<'_>,
        reader: impl AsyncRead + Unpin,
        labels: &Labels,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let (sender, receiver) = mpsc::channel(2);
        let send = async {
            match write.send(reader, labels, sender).await {
                // All is said; how it went, only containerd knows.
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        };
        let receive = async {
            let mut rpc = self.client().content_rpc();
            let mut answers = write.op.run(rpc.write(ReceiverStream::new(receiver))).await?;
            while let Some(answer) = write.op.wait(answers.message()).await? {
                if answer.action == WriteAction::Commit as i32 {
                    return Ok(());
                }
                progress(u64::try_from(answer.offset).unwrap_or_default());
            }
            Err(write.op.error(&Status::aborted("the stream ended before the commit")))
        };
        tokio::select! {
            error = send => Err(error),
            received = receive => received,
        }
    }
}

/// One attempt to write a blob.
struct Write<'a> {
    /// Names the attempt; never used twice, so that it never continues a broken one.
    reference: String,
    digest: &'a str,
    size: i64,
    op: Op<'a>,
}

impl Write<'_> {
    /// Sends the reader's bytes, then the commit. Fails only when the reader does: when nobody
    /// takes them any more, containerd's answer tells why.
    async fn send(
        &self,
        mut reader: impl AsyncRead + Unpin,
        labels: &Labels,
        sender: mpsc::Sender<WriteContentRequest>,
    ) -> Result<()> {
        let mut offset = 0;
        loop {
            let mut data =
                Vec::with_capacity(PIECE.min(usize::try_from(self.size).unwrap_or(PIECE)) + 1);
            (&mut reader).take(PIECE as u64).read_to_end(&mut data).await?;
            if data.is_empty() {
                break;
            }
            let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
            let message = self.message(WriteAction::Write, offset, data);
            offset += length;
            if sender.send(message).await.is_err() {
                return Ok(());
            }
        }
        let mut commit = self.message(WriteAction::Commit, offset, Vec::new());
        commit.labels.clone_from(labels);
        let _ = sender.send(commit).await;
        Ok(())
    }

    fn message(&self, action: WriteAction, offset: i64, data: Vec<u8>) -> WriteContentRequest {
        WriteContentRequest {
            action: action as i32,
            r#ref: self.reference.clone(),
            total: self.size,
            expected: self.digest.to_owned(),
            offset,
            data,
            ..WriteContentRequest::default()
        }
    }
}
