//! What happens in containerd, as a stream that survives its restarts.

use std::time::Duration;

use containerd_client::events as wire;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use prost::Message;
use tokio::sync::mpsc::{self, Sender, error::TrySendError};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::client::{Client, RETRY, op, unique};
use crate::containers::any;
use crate::error::Result;

/// How many events wait for a slow reader before they are given up for a new list.
const BUFFER: usize = 1024;
/// Topic of the events with which a subscription tests itself.
const PROBE: &str = "/inplace/probe/";

/// Something that happened, or that events may have been missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The subscription is in force from here on. Comes first, and again after every gap
    /// (containerd was away, or the reader was too slow): list tasks anew now, and nothing is missed.
    Connected,
    /// A task was created.
    TaskCreated {
        /// Identifier of its container.
        container: String,
        /// Process id.
        pid: u32,
    },
    /// A task runs.
    TaskStarted {
        /// Identifier of its container.
        container: String,
        /// Process id.
        pid: u32,
    },
    /// A task, or a process that `exec` names, ended.
    TaskExited {
        /// Identifier of its container.
        container: String,
        /// Name of the process within the container; none for the task itself.
        exec: Option<String>,
        /// Process id.
        pid: u32,
        /// Exit status; 128 + signal for one that a signal ended.
        status: u32,
    },
    /// A task hit its memory limit and the kernel killed something in it.
    TaskOom {
        /// Identifier of its container.
        container: String,
    },
    /// A task was frozen.
    TaskPaused {
        /// Identifier of its container.
        container: String,
    },
    /// A frozen task goes on.
    TaskResumed {
        /// Identifier of its container.
        container: String,
    },
    /// Any other: images, containers, snapshots, content. The deletion of a task is among them,
    /// because it is not to be relied on: the shim ends while it is still on its way.
    Other {
        /// What kind, for example `/images/create`.
        topic: String,
    },
}

/// A stream of events. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Client {
    /// Events of this namespace whose topic matches one of the regular expressions `topics`
    /// (`^/tasks/`); none means all.
    #[must_use]
    pub fn events(&self, topics: &[&str]) -> Events {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let namespace = format!("namespace=={}", self.namespace());
        let filters = match topics {
            [] => vec![namespace],
            topics => topics.iter().map(|it| format!("{namespace},topic~={it:?}")).collect(),
        };
        let task = tokio::spawn(follow(self.clone(), filters, sender));
        Events { receiver, task }
    }
}

impl Events {
    /// The next event. Waits for as long as nothing happens.
    pub async fn next(&mut self) -> Event {
        // The other side ends only with the runtime itself.
        match self.receiver.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a subscription ended.
enum Gap {
    /// The connection broke.
    Broken(crate::Error),
    /// The reader let the buffer run full.
    Slow,
    /// Nobody reads any more.
    Closed,
}

/// Subscribes again and again until nobody reads.
async fn follow(client: Client, filters: Vec<String>, sender: Sender<Event>) {
    let mut pause = RETRY.0;
    loop {
        let mut connected = false;
        match subscription(&client, &filters, &sender, &mut connected).await {
            Gap::Closed => return,
            Gap::Slow => {
                warn!(buffer = BUFFER, "reader of events is too slow, it will list anew");
                // Not before it has caught up: else the next one would run full at once.
                if sender.reserve_many(BUFFER).await.is_err() {
                    return;
                }
            }
            Gap::Broken(error) => {
                log(&error);
                pause = if connected { RETRY.0 } else { (pause * 2).min(RETRY.1) };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// A restart of containerd is no news here; anything else an operator may have to look at.
fn log(error: &crate::Error) {
    let error = (error.is_unavailable(), error as &dyn std::error::Error);
    match error {
        (true, error) => debug!(error, "events broke off"),
        (false, error) => warn!(error, "events are refused"),
    }
}

/// One subscription, from its beginning to its end.
///
/// containerd answers a subscription only with the first event, so nothing tells when it is in
/// force. We send events of our own until one comes back.
async fn subscription(
    client: &Client,
    filters: &[String],
    sender: &Sender<Event>,
    connected: &mut bool,
) -> Gap {
    let probe = format!("{PROBE}{}", unique("p"));
    let mut filters = filters.to_vec();
    filters.push(format!("topic=={probe:?}"));
    let mut rpc = client.events_rpc();
    let op = op("subscribing to events of", client.namespace());
    let subscribe = async {
        let stream = rpc.subscribe(SubscribeRequest { filters }).await;
        stream.map(tonic::Response::into_inner).map_err(|status| op.error(&status))
    };
    let mut stream = tokio::select! {
        stream = subscribe => match stream {
            Ok(stream) => stream,
            Err(error) => return Gap::Broken(error),
        },
        error = send_probes(client, &probe) => return Gap::Broken(error),
        () = sender.closed() => return Gap::Closed,
    };
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            error = send_probes(client, &probe), if !*connected => return Gap::Broken(error),
            () = sender.closed() => return Gap::Closed,
        };
        let envelope = match message {
            Ok(Some(envelope)) => envelope,
            Ok(None) => {
                return Gap::Broken(op.error(&tonic::Status::unavailable("the stream ended")));
            }
            Err(status) => return Gap::Broken(op.error(&status)),
        };
        let event = match (envelope.topic == probe, *connected) {
            (true, false) => Event::Connected,
            (false, true) => event(envelope),
            // A probe too many, or something from before the list that `Connected` asks for.
            _ => continue,
        };
        *connected = true;
        match sender.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Gap::Slow,
            Err(TrySendError::Closed(_)) => return Gap::Closed,
        }
    }
}

/// Publishes the probe at growing distances until it is dropped, or until that fails.
async fn send_probes(client: &Client, topic: &str) -> crate::Error {
    let mut pause = RETRY.0;
    loop {
        if let Err(error) = publish(client, topic).await {
            return error;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn publish(client: &Client, topic: &str) -> Result<()> {
    let event = Some(any("containerd.events.NamespaceUpdate", Vec::new()));
    let request = PublishRequest { topic: topic.to_owned(), event };
    op("publishing event", topic)
        .within(Duration::from_secs(5))
        .run(client.events_rpc().publish(request))
        .await?;
    Ok(())
}

fn event(envelope: Envelope) -> Event {
    let bytes = envelope.event.as_ref().map(|it| it.value.as_slice()).unwrap_or_default();
    typed(&envelope.topic, bytes).unwrap_or(Event::Other { topic: envelope.topic })
}

/// The event of a topic that we know, if it can be read.
fn typed(topic: &str, bytes: &[u8]) -> Option<Event> {
    Some(match topic {
        "/tasks/create" => {
            let it = wire::TaskCreate::decode(bytes).ok()?;
            Event::TaskCreated { container: it.container_id, pid: it.pid }
        }
        "/tasks/start" => {
            let it = wire::TaskStart::decode(bytes).ok()?;
            Event::TaskStarted { container: it.container_id, pid: it.pid }
        }
        "/tasks/exit" => {
            let it = wire::TaskExit::decode(bytes).ok()?;
            let exec = Some(it.id).filter(|id| !id.is_empty() && *id != it.container_id);
            Event::TaskExited {
                container: it.container_id,
                exec,
                pid: it.pid,
                status: it.exit_status,
            }
        }
        "/tasks/oom" => {
            Event::TaskOom { container: wire::TaskOom::decode(bytes).ok()?.container_id }
        }
        "/tasks/paused" => {
            Event::TaskPaused { container: wire::TaskPaused::decode(bytes).ok()?.container_id }
        }
        "/tasks/resumed" => {
            Event::TaskResumed { container: wire::TaskResumed::decode(bytes).ok()?.container_id }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(topic: &str, message: &impl Message, expected: &Event) {
        let event_any = any("x", message.encode_to_vec());
        let envelope =
            Envelope { topic: topic.to_owned(), event: Some(event_any), ..Envelope::default() };
        assert_eq!(&event(envelope), expected);
    }

    fn exit(id: &str) -> wire::TaskExit {
        let (container_id, id) = ("c".to_owned(), id.to_owned());
        wire::TaskExit { container_id, id, pid: 7, exit_status: 137, ..Default::default() }
    }

    #[test]
    fn the_exit_of_a_task_is_told_from_that_of_an_exec() {
        let exited = |exec: Option<&str>| Event::TaskExited {
            container: "c".to_owned(),
            exec: exec.map(str::to_owned),
            pid: 7,
            status: 137,
        };
        check("/tasks/exit", &exit("c"), &exited(None));
        check("/tasks/exit", &exit("e1"), &exited(Some("e1")));
    }

    #[test]
    fn what_is_not_known_keeps_its_topic() {
        let other = |topic: &str| Event::Other { topic: topic.to_owned() };
        check("/images/create", &exit("c"), &other("/images/create"));
    }
}
