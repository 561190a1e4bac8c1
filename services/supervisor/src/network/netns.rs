//! An empty network for the time in which package code runs: a network namespace with nothing in it but loopback. The
//! network that the sandbox was started in is never empty, whatever the engine disconnects: Docker's resolver goes on
//! answering there.
//!
//! A process without the right to administer networks may make a namespace but not raise loopback in it. In a user
//! namespace of its own it may, so a child makes both; the supervisor joins the network alone and stays whom it was. The
//! child is this program again, since a process that shares its memory with others cannot enter a user namespace.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// Argument with which the child is started that makes a network.
pub(crate) const MAKE: &str = "empty-network";
/// What the child says once its network is there.
const READY: &str = "ready";
/// Where a process finds the network that it is in.
const OWN_NETWORK: &str = "/proc/thread-self/ns/net";
/// The kernel makes loopback first in every network.
const LOOPBACK: i32 = 1;

/// Which of its networks the supervisor, and what it starts, is in.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    /// The one that the engine made, while another is joined.
    engines: Option<File>,
}

impl Networks {
    /// Joins an empty network: a new one each time, so that nothing is left in it of what ran before.
    pub(crate) fn join_empty(&mut self) -> Result<(), String> {
        let engines = match self.engines.take() {
            Some(file) => file,
            None => File::open(OWN_NETWORK).map_err(|error| error.to_string())?,
        };
        let joined = with_empty(|network| setns(network, CloneFlags::CLONE_NEWNET));
        // Also after a failure: whoever asks for the engine's network joins it.
        self.engines = Some(engines);
        joined.map_err(|reason| format!("no empty network could be made for it ({reason})"))
    }

    /// Joins the engine's network again.
    pub(crate) fn join_engines(&mut self) -> Result<(), String> {
        let Some(network) = &self.engines else {
            return Ok(());
        };
        setns(network, CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("the engine's network could not be joined again ({error})"))?;
        self.engines = None;
        Ok(())
    }
}

/// Hands over a new, empty network. It lasts as long as a process is in it.
fn with_empty(join: impl FnOnce(File) -> nix::Result<()>) -> Result<(), String> {
    let mut child = Command::new("/proc/self/exe")
        .arg(MAKE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let joined =
        network_of(&mut child).and_then(|network| join(network).map_err(|error| error.to_string()));
    // It waits for the end of its input only, but nothing here may wait for it.
    let _ended = child.kill();
    let _reaped = child.wait();
    joined
}

/// The network that the child made, once it has said so.
fn network_of(child: &mut Child) -> Result<File, String> {
    let output = child.stdout.take().ok_or("it has no output")?;
    let mut said = String::new();
    BufReader::new(output.take(1 << 10))
        .read_line(&mut said)
        .map_err(|error| error.to_string())?;
    match said.trim() {
        READY => {
            let path = format!("/proc/{}/ns/net", child.id());
            File::open(&path).map_err(|error| format!("{path}: {error}"))
        }
        "" => Err("its maker said nothing".to_owned()),
        reason => Err(reason.to_owned()),
    }
}

/// The child's part: makes an empty network, says so, and stays in it until its input ends.
pub(crate) fn make() -> ExitCode {
    if let Err(reason) = make_empty() {
        println!("{reason}");
        return ExitCode::FAILURE;
    }
    println!("{READY}");
    let _until_closed = io::copy(&mut io::stdin(), &mut io::sink());
    ExitCode::SUCCESS
}

fn make_empty() -> Result<(), String> {
    if unshare(CloneFlags::CLONE_NEWNET).is_ok() && raise_loopback().is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(|error| {
        format!(
            "{error}; the host must allow user and network namespaces: sysctl user.max_user_namespaces, user.max_net_namespaces"
        )
    })?;
    raise_loopback().map_err(|error| format!("loopback: {error}"))
}

/// Asks the kernel to raise loopback, by rtnetlink(7).
fn raise_loopback() -> io::Result<()> {
    // A netlink socket that is not bound talks to the kernel, which has answered once the request is written.
    let mut kernel = File::from(socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?);
    kernel.write_all(&raise_request())?;
    let mut answer = [0; 256];
    let length = kernel.read(&mut answer)?;
    Ok(read_answer(answer.get(..length).unwrap_or_default())?)
}

/// A header of netlink(7) and a link of rtnetlink(7): set the flag `IFF_UP` of loopback.
fn raise_request() -> [u8; 32] {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut request = [0; 32];
    let parts: [(usize, &[u8]); 6] = [
        (0, &32_u32.to_ne_bytes()),
        (4, &RTM_NEWLINK.to_ne_bytes()),
        (6, &REQUEST_AND_ACKNOWLEDGE.to_ne_bytes()),
        (20, &LOOPBACK.to_ne_bytes()),
        (24, &IFF_UP.to_ne_bytes()),
        (28, &IFF_UP.to_ne_bytes()),
    ];
    for (at, part) in parts {
        request[at..at + part.len()].copy_from_slice(part);
    }
    request
}

/// The kernel acknowledges with an error message whose number is 0, or else the negative errno.
fn read_answer(answer: &[u8]) -> nix::Result<()> {
    const NLMSG_ERROR: u16 = 2;
    let kind = answer.get(4..6).and_then(|part| part.try_into().ok());
    let number = answer.get(16..20).and_then(|part| part.try_into().ok());
    match (kind.map(u16::from_ne_bytes), number.map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(number)) => Err(Errno::from_raw(-number)),
        _ => Err(Errno::EPROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, number: i32) -> Vec<u8> {
        let mut answer = raise_request().to_vec();
        answer[4..6].copy_from_slice(&kind.to_ne_bytes());
        answer[16..20].copy_from_slice(&number.to_ne_bytes());
        answer
    }

    #[test]
    fn the_kernels_answer_is_an_acknowledgement_or_an_error() {
        assert_eq!(read_answer(&answer(2, 0)), Ok(()));
        assert_eq!(read_answer(&answer(2, -1)), Err(Errno::EPERM));
        assert_eq!(read_answer(&answer(16, 0)), Err(Errno::EPROTO));
        assert_eq!(read_answer(&[]), Err(Errno::EPROTO));
        assert_eq!(read_answer(&answer(2, 0)[..18]), Err(Errno::EPROTO));
    }

    #[test]
    fn the_request_names_its_own_length_and_loopback() {
        let request = raise_request();
        assert_eq!(request[..4], 32_u32.to_ne_bytes());
        assert_eq!(request[20..24], 1_i32.to_ne_bytes());
    }

    #[test]
    fn who_never_left_the_engines_network_need_not_come_back() {
        assert_eq!(Networks::default().join_engines(), Ok(()));
    }
}
