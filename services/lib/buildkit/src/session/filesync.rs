//! FileSync: BuildKit's receiver is told of every entry, asks for the files it lacks, gets them.

use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::{Packet, packet::PacketType};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::Failure;
use crate::context::Tree;
use crate::context::select::{Selection, select};
use crate::llb::CONTEXT;

/// How the Dockerfile frontend calls the folder that the Dockerfile is in.
const DOCKERFILE: &str = "dockerfile";
/// Packets on the way to BuildKit; one holds at most 32 KiB of a file.
const PACKETS: usize = 64;

/// Serves one tree, under both names that BuildKit asks for.
pub(super) struct Files {
    tree: Arc<Tree>,
    failure: Failure,
}

/// What the receiver asks for.
enum Wanted {
    /// The content of the entry with this number.
    File(u32),
    /// Nothing more.
    End,
}

type Packets = ReceiverStream<Result<Packet, Status>>;

impl Files {
    pub(super) fn new(tree: Arc<Tree>, failure: Failure) -> Self {
        Self { tree, failure }
    }
}

#[tonic::async_trait]
impl FileSync for Files {
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        Err(Status::unimplemented("only DiffCopy is served"))
    }

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Packets>, Status> {
        let name = values(request.metadata(), "dir-name").into_iter().next().unwrap_or_default();
        if ![CONTEXT, DOCKERFILE].contains(&name.as_str()) {
            return Err(Status::not_found(format!("no folder is named {name:?}")));
        }
        let selection = selection(request.metadata());
        let tree = Arc::clone(&self.tree);
        let chosen = tokio::task::spawn_blocking(move || select(tree.entries(), &selection));
        let chosen = chosen.await.map_err(|error| Status::internal(error.to_string()))?;
        let chosen: Arc<[usize]> = match chosen {
            Ok(chosen) => chosen.into(),
            Err(error) => {
                let reason = self.failure.get_or_init(|| error.to_string());
                return Err(Status::invalid_argument(reason));
            }
        };
        let entries = self.tree.entries();
        let files = chosen.iter().filter(|index| entries[**index].is_file()).count();
        debug!(%name, entries = chosen.len(), files, "sending files");
        let (packets, outgoing) = mpsc::channel(PACKETS);
        // Requests are taken off the connection at once and wait here: h2 ends a connection that
        // holds too many small unread frames. Each file is asked for once, so this never fills.
        let (asking, asked) = mpsc::channel(files + 1);
        // These three end with the connection, whichever side ends it.
        tokio::spawn(drain(request.into_inner(), asking, Arc::clone(&self.failure)));
        tokio::spawn(announce(Arc::clone(&self.tree), Arc::clone(&chosen), packets.clone()));
        let (tree, failure) = (Arc::clone(&self.tree), Arc::clone(&self.failure));
        tokio::task::spawn_blocking(move || {
            if let Err(reason) = answer(&tree, &chosen, asked, &packets) {
                let reason = failure.get_or_init(|| reason).clone();
                // No one may be left to hear it.
                let _ = packets.blocking_send(Ok(packet(PacketType::PacketErr, 0, reason.into())));
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// Takes requests off the connection until it ends.
async fn drain(mut requests: Streaming<Packet>, asking: mpsc::Sender<Wanted>, failure: Failure) {
    while let Ok(Some(packet)) = requests.message().await {
        let wanted = match packet.r#type() {
            PacketType::PacketReq => Wanted::File(packet.id),
            PacketType::PacketFin => Wanted::End,
            PacketType::PacketErr => {
                debug!(error = %String::from_utf8_lossy(&packet.data), "the receiver gave up");
                return;
            }
            PacketType::PacketStat | PacketType::PacketData => continue,
        };
        match asking.try_send(wanted) {
            Ok(()) => {}
            // The answering side has failed and has said why.
            Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(_)) => {
                failure.get_or_init(|| "buildkitd asked for more files than it was told of".into());
                return;
            }
        }
    }
}

/// Tells of every chosen entry; its number is its place in this sequence.
async fn announce(
    tree: Arc<Tree>,
    chosen: Arc<[usize]>,
    packets: mpsc::Sender<Result<Packet, Status>>,
) {
    let stats = chosen.iter().map(|index| Some(tree.entries()[*index].stat()));
    for stat in stats.chain([None]) {
        let packet = Packet { stat, ..packet(PacketType::PacketStat, 0, Vec::new()) };
        if packets.send(Ok(packet)).await.is_err() {
            return;
        }
    }
}

/// Sends what was asked for, in that order, on a thread that may block on the disk.
fn answer(
    tree: &Tree,
    chosen: &[usize],
    mut asked: mpsc::Receiver<Wanted>,
    packets: &mpsc::Sender<Result<Packet, Status>>,
) -> Result<(), String> {
    let mut blobs = None;
    while let Some(wanted) = asked.blocking_recv() {
        let Wanted::File(id) = wanted else {
            let _ = packets.blocking_send(Ok(packet(PacketType::PacketFin, 0, Vec::new())));
            return Ok(());
        };
        let index = usize::try_from(id).ok().and_then(|it| chosen.get(it));
        let entry = index.map(|it| &tree.entries()[*it]).filter(|it| it.is_file());
        let entry = entry.ok_or_else(|| format!("buildkitd asked for {id}, which is no file"))?;
        if blobs.is_none() {
            blobs = Some(tree.blobs().map_err(|it| format!("opening git: {}", it.message()))?);
        }
        let mut send =
            |data| packets.blocking_send(Ok(packet(PacketType::PacketData, id, data))).is_ok();
        if let Some(blobs) = &blobs {
            blobs.read(entry, &mut send)?;
        }
        // An empty piece is the file's end.
        send(Vec::new());
    }
    Ok(())
}

fn packet(kind: PacketType, id: u32, data: Vec<u8>) -> Packet {
    Packet { r#type: kind.into(), id, data, stat: None }
}

fn selection(headers: &MetadataMap) -> Selection {
    Selection {
        include: values(headers, "include-patterns"),
        exclude: values(headers, "exclude-patterns"),
        follow: values(headers, "followpaths"),
    }
}

/// All values of a header. BuildKit marks lists with characters beyond ASCII as URL-encoded.
fn values(headers: &MetadataMap, key: &str) -> Vec<String> {
    let encoded = headers.get(format!("{key}-encoded")).is_some_and(|it| it == "1");
    let texts = headers.get_all(key).into_iter().filter_map(|it| it.to_str().ok());
    texts.map(|it| if encoded { decode(it) } else { it.to_owned() }).collect()
}

/// What Go's `url.QueryEscape` made of a text; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let escaped = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        let (byte, used) = match (first, escaped) {
            (b'%', Some(byte)) => (byte, 2),
            (b'+', _) => (b' ', 0),
            _ => (first, 0),
        };
        bytes.push(byte);
        rest = &after[used..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_come_plain_or_encoded() {
        let mut headers = MetadataMap::new();
        headers.append("followpaths", "a+b%".parse().unwrap());
        headers.append("followpaths", "c".parse().unwrap());
        headers.append("exclude-patterns", "%C3%A4+%2B.txt%2".parse().unwrap());
        headers.append("exclude-patterns-encoded", "1".parse().unwrap());
        let expected = Selection {
            include: Vec::new(),
            exclude: vec!["ä +.txt%2".into()],
            follow: vec!["a+b%".into(), "c".into()],
        };
        assert_eq!(selection(&headers), expected);
    }
}
