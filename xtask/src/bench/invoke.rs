//! One call at a time: through the gateway, to the watchdog, and to the bare process inside the
//! function's network namespace. What the first costs over the last is ours.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::figures::{Report, Series};
use super::machine::Bench;

const NAME: &str = "bench-invoke";
/// Calls per round: one call is too short for a clock and a scheduler to be fair.
const CALLS: usize = 100;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    bench.create(NAME)?;
    fs_err::write(
        bench.folder(NAME).join("handler.py"),
        "def handle(event, context):\n    return \"bench\"\n",
    )?;
    bench.wait_for_body(&bench.function_url(NAME), "bench")?;
    let pid = bench.watchdog()?;
    let worker = listener(pid)?;

    let url = bench.function_url(NAME);
    let (host, path) =
        url.trim_start_matches("http://").split_once('/').context("an address has a path")?;
    let mut gateway = Client::connect(host.parse()?, &format!("/{path}"))?;
    let (mut watchdog, mut bare) = std::thread::spawn(move || -> Result<_> {
        // This thread, and what it connects, is inside the function's network.
        let namespace = fs_err::File::open(format!("/proc/{pid}/ns/net"))?;
        setns(namespace.file(), CloneFlags::CLONE_NEWNET)?;
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Ok((Client::connect(at(8080), "/")?, Client::connect(at(worker), "/")?))
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the thread in the function's network died"))??;

    let mut all = [
        (&mut gateway, Series::new("call: gateway, watchdog, process")),
        (&mut watchdog, Series::new("call: watchdog, process")),
        (&mut bare, Series::new("peer: the bare process")),
    ];
    for round in 0..=report.rounds() {
        for (client, series) in &mut all {
            let mut calls = Series::new("");
            for _ in 0..CALLS {
                calls.time(|| client.call())?;
            }
            // The first round warms up.
            if round > 0 {
                series.push(calls.quantile(0.5));
            }
        }
    }
    let [gateway, watchdog, bare] = all.map(|(_, series)| series);
    eprintln!(
        "gateway and watchdog over the bare process: {:.3} ms",
        gateway.quantile(0.5) - bare.quantile(0.5)
    );
    for series in [gateway, watchdog, bare] {
        report.add(series);
    }
    bench.remove(NAME)
}

/// The port on 127.0.0.1 that the function's server process listens on.
fn listener(pid: u32) -> Result<u16> {
    // Fields: number, local address as hex IP:PORT, remote, state (0A = listening).
    let table = fs_err::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = fields.get(1)?.strip_prefix("0100007F:")?;
            (*fields.get(3)? == "0A").then(|| u16::from_str_radix(port, 16).ok())?
        })
        .find(|port| *port != 8080)
        .with_context(|| format!("no process listens behind the watchdog:\n{table}"))
}

/// One connection that is kept, without a client library between the clock and the socket.
struct Client {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Client {
    fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        Ok(Self { stream: BufReader::new(stream), request })
    }

    fn call(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let text = line.trim().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if body != b"bench" {
            bail!("the function answered {:?}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }
}
