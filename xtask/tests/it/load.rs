//! Not one call fails while somebody edits, and bodies of any size pass through.

use std::io::{Read, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use api::function::State;

use crate::machine::{Machine, handler};

/// Callers that never pause.
const CALLERS: usize = 8;

/// Keeps 8 callers busy while `work` runs; every answer must be 200. Returns how many there were.
#[track_caller]
fn under_load(machine: &Machine, name: &str, work: impl FnOnce()) -> usize {
    let (stop, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let answer = machine.call(name);
                        if answer.status != 200 {
                            return Err(format!(
                                "{} {} {:?}",
                                answer.status, answer.body, answer.headers
                            ));
                        }
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        // A failed assertion in `work` must still stop the callers.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            if let Err(failed) = caller.join().unwrap() {
                panic!("a call failed: {failed}");
            }
        }
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    calls.into_inner()
}

#[test]
fn no_call_fails_during_twenty_switches() {
    let machine = Machine::start();
    machine.create("busy");
    let calls = under_load(&machine, "busy", || {
        for round in 0..20 {
            machine.save("busy", &format!("round {round}"));
        }
    });
    assert!(calls > 20, "only {calls} calls were made");
}

#[test]
fn no_call_fails_during_a_broken_save_or_while_a_file_is_typed_in_small_writes() {
    let machine = Machine::start();
    machine.create("typed");
    machine.save("typed", "before");
    under_load(&machine, "typed", || {
        fs_err::write(machine.file("typed", "handler.py"), "import nothing_of_that_name\n")
            .unwrap();
        machine.wait_for_state("typed", State::Degraded);

        // One writer that keeps the file open, as an editor that saves in place does.
        let text = handler("typed to the end");
        let mut file = fs_err::File::create(machine.file("typed", "handler.py")).unwrap();
        for byte in text.as_bytes() {
            file.write_all(&[*byte]).unwrap();
            file.flush().unwrap();
        }
        drop(file);
        machine.wait("what was typed is live", || machine.call("typed").body == "typed to the end");

        // And one that opens, adds a piece, and closes: most of these saves are half-written.
        let text = handler("in pieces");
        for end in (0..=text.len()).step_by(7).chain([text.len()]) {
            fs_err::write(machine.file("typed", "handler.py"), &text[..end]).unwrap();
        }
        machine.wait("the last piece is live", || machine.call("typed").body == "in pieces");
    });
    machine.wait_for_state("typed", State::Ready);
}

#[test]
fn a_body_of_a_gibibyte_grows_neither_gateway_nor_provider() {
    let machine = Machine::start();
    machine.create("large");
    // It reads the body in pieces and answers its length.
    fs_err::write(
        machine.file("large", "handler.py"),
        "def handle(event, context):\n    return {\"statusCode\": 200, \"body\": str(len(event.body))}\n",
    )
    .unwrap();
    machine.wait("it counts", || machine.call("large").body == "0");
    // Once with a smaller body: what is allocated once is allocated.
    machine.send("large", std::io::repeat(b'x').take(8 << 20));
    let programs = ["gateway", "provider"];
    let before = programs.map(|program| peak(&machine, program));
    let answer = machine.send("large", std::io::repeat(b'x').take(1 << 30));
    // The template's server has a limit of its own; what is measured is who stands before it.
    assert!(matches!(answer.status, 0 | 413), "{} {}", answer.status, answer.body);
    let answer =
        machine.upload("/v1/functions/large/files/huge.bin", std::io::repeat(b'x').take(1 << 30));
    assert!(matches!(answer.status, 0 | 413), "{} {}", answer.status, answer.body);
    assert!(!machine.file("large", "huge.bin").exists());
    for (program, before) in programs.into_iter().zip(before) {
        let grown = peak(&machine, program).saturating_sub(before);
        assert!(grown < 16 << 10, "{program} grew by {grown} KiB");
    }
}

/// The most memory that a program has ever held, in KiB.
fn peak(machine: &Machine, program: &str) -> u64 {
    let pid = machine.pids(program)[0];
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
