//! `/v1/events`: all that changes.

use api::event::Event;
use axum::extract::State;
use axum::response::sse;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::sync::broadcast::Receiver;

use super::{App, Result};

pub(super) async fn all(State(app): State<App>) -> Result {
    let receiver = app.provider.shared.events();
    // A reader that is too slow is let go: it reads all functions and begins anew.
    let events = stream::unfold(receiver, async |mut receiver: Receiver<Event>| {
        Some((receiver.recv().await.ok()?, receiver))
    });
    let events = events.map(|event| {
        let (name, data) = named(event);
        (sse::Event::default().event(name), data)
    });
    Ok(super::sse(&app, events))
}

/// The type goes into the event's name, the rest is its data.
fn named(event: Event) -> (&'static str, Value) {
    let name = match &event {
        Event::Function(_) => "function",
        Event::Removed { .. } => "removed",
        Event::Progress { .. } => "progress",
        Event::Live { .. } => "live",
        Event::Refused { .. } => "refused",
        Event::Committed { .. } => "committed",
    };
    let mut data = serde_json::to_value(event).expect("an event is plain data");
    if let Value::Object(fields) = &mut data {
        fields.remove("type");
    }
    (name, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_name_is_its_type() {
        let name = || "hello".parse().unwrap();
        let error = api::Error::new(api::ErrorCode::StartFailed, "x");
        for event in [
            Event::Removed { name: name() },
            Event::Live { name: name(), version: 1, took_ms: 2.0 },
            Event::Refused { name: name(), version: 1, error },
            Event::Progress { name: name(), what: String::new(), current: 1, total: 2 },
        ] {
            let kind = serde_json::to_value(&event).unwrap()["type"].clone();
            let (named, data) = named(event);
            assert_eq!(kind, named);
            assert_eq!(data["name"], "hello");
            assert!(data.get("type").is_none());
        }
    }
}
