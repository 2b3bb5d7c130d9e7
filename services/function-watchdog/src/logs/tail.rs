//! The last lines that a process printed, within bounds.

use std::collections::VecDeque;

/// Lines kept at most.
const LINES: usize = 200;
/// Bytes kept at most. JSON can make six bytes out of one, and all of it must fit into one line
/// of the control protocol.
const BYTES: usize = 32 * 1024;
/// Bytes kept of one line.
const LINE: usize = 2048;

/// A ring of lines.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Adds a line without its end; the oldest ones go when there is no room.
    pub(crate) fn push(&mut self, line: &[u8]) {
        let mut text = String::from_utf8_lossy(&line[..line.len().min(LINE)]).into_owned();
        text.truncate(text.floor_char_boundary(LINE));
        self.bytes += text.len();
        self.lines.push_back(text);
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_in_their_order() {
        let mut tail = Tail::default();
        for number in 0..500 {
            tail.push(format!("line {number}").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!((lines[0].as_str(), lines[199].as_str()), ("line 300", "line 499"));
    }

    #[test]
    fn the_worst_output_fits_into_one_line_of_the_control_protocol() {
        for worst in [&[1_u8][..], b"\xff", b"\"", "€".as_bytes(), b""] {
            let mut tail = Tail::default();
            for _ in 0..1000 {
                tail.push(&worst.repeat(5000));
            }
            let reply = api::switch::Reply::Refused {
                version: u64::MAX,
                reason: "x".repeat(1024),
                lines: tail.lines(),
            };
            let size = serde_json::to_vec(&reply).unwrap().len();
            assert!(size < api::switch::MAX_LINE, "{size} bytes of {worst:?}");
        }
    }
}
