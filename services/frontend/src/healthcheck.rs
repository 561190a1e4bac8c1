//! `healthcheck`: asks the frontend on this machine whether it is ready, as the container engine does each few
//! seconds; so it stays small.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

/// How long to connect, to write and to read may take, each.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Exit code 0 when `/readyz` answers 200.
pub fn run(listen: SocketAddr) -> anyhow::Result<ExitCode> {
    let line = ask(reachable(listen)).with_context(|| format!("no answer at {listen}"))?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(ExitCode::SUCCESS),
        _ => bail!("not ready: {}", line.trim()),
    }
}

/// The address to connect to: loopback where the frontend listens on all addresses.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
