//! Names while the network is cut. mock and the package managers ask for the machine's own name at each start. Docker
//! removes that name from `/etc/hosts` when it disconnects a container, and its resolver then swallows the question: 10 s
//! a time. So a cut sandbox has files of its own in front of the engine's, in which its own name is on loopback and no
//! resolver is named.

use std::fs::{self, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

const HOSTS: &str = "/etc/hosts";
const RESOLVERS: &str = "/etc/resolv.conf";
/// The address of the machine's own name, as distributions choose it for one without a network.
const OWN_ADDRESS: &str = "127.0.1.1";
const NO_RESOLVER: &str = "# The network is cut: no resolver is named.\n";

/// The files that are in front of the engine's. They are mounted rather than written into its files, because the engine
/// rewrites those at a moment of its own after it has disconnected a container.
#[derive(Debug, Default)]
pub(crate) struct OwnNames {
    covered: Vec<&'static str>,
}

impl OwnNames {
    /// Puts this sandbox's own files in front of the engine's; `folder` holds them.
    pub(crate) fn cover(&mut self, folder: &Path) -> io::Result<()> {
        self.uncover()?;
        let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
        let text = hosts_of(&own_name()?, &hosts);
        self.put(folder.join("hosts").as_path(), &text, HOSTS)?;
        self.put(folder.join("resolv.conf").as_path(), NO_RESOLVER, RESOLVERS)
    }

    /// Shows the engine's files again.
    pub(crate) fn uncover(&mut self) -> io::Result<()> {
        while let Some(target) = self.covered.pop() {
            // Detached, since a process that was killed just now may still have it open.
            umount2(target, MntFlags::MNT_DETACH)?;
        }
        Ok(())
    }

    fn put(&mut self, file: &Path, text: &str, target: &'static str) -> io::Result<()> {
        fs::write(file, text)?;
        // The package's user reads it, whatever the supervisor's umask is.
        fs::set_permissions(file, Permissions::from_mode(0o644))?;
        if !Path::new(target).exists() {
            // An image without such a file, or with a link that leads nowhere: there is nothing to cover.
            fs::write(target, text)?;
        }
        mount(
            Some(file),
            target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
        self.covered.push(target);
        Ok(())
    }
}

/// The machine's own name.
fn own_name() -> io::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_owned())
}

/// The addresses that `/etc/hosts` gives the machine's own name.
pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let name = own_name()?;
    let hosts = fs::read_to_string(HOSTS)?;
    Ok(addresses(&hosts, &name)
        .filter_map(|address| address.parse().ok())
        .collect())
}

fn addresses<'a>(hosts: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    hosts.lines().filter_map(move |line| {
        let mut words = words(line);
        let address = words.next()?;
        words.any(|word| word == name).then_some(address)
    })
}

/// The resolvers that are named, by address.
pub(crate) fn resolvers() -> Vec<IpAddr> {
    resolvers_in(&fs::read_to_string(RESOLVERS).unwrap_or_default())
}

fn resolvers_in(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = words(line);
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
        })
        .collect()
}

/// The engine's table of hosts with the machine's own name on loopback alone: its address of the network is gone.
fn hosts_of(name: &str, engines: &str) -> String {
    let mut table = String::new();
    for line in engines.lines() {
        let is_named = words(line).skip(1).any(|word| word == name);
        let kept: Vec<&str> = words(line).filter(|word| *word != name).collect();
        match kept.as_slice() {
            _ if !is_named => table.push_str(line),
            [] | [_] => continue,
            kept => table.push_str(&kept.join(" ")),
        }
        table.push('\n');
    }
    table + OWN_ADDRESS + " " + name + "\n"
}

/// The words of a line up to its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let text = line.split('#').next().unwrap_or_default();
    text.split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n";

    #[test]
    fn the_own_name_is_on_loopback_alone() {
        for engines in [
            DOCKERS.to_owned(),
            format!("{DOCKERS}172.19.0.2\tmillrace\n"),
            // What an earlier cut left, or another engine wrote.
            format!("{DOCKERS}127.0.1.1 millrace\n172.19.0.2\tmillrace # ours\n"),
        ] {
            let table = hosts_of("millrace", &engines);
            assert_eq!(table, format!("{DOCKERS}127.0.1.1 millrace\n"));
            let found: Vec<&str> = addresses(&table, "millrace").collect();
            assert_eq!(found, ["127.0.1.1"]);
        }
    }

    #[test]
    fn other_names_of_a_line_stay() {
        let engines = "# by podman\n10.89.0.5 millrace eager_lamport\n10.89.0.1 host.containers.internal millrace-2\n";
        assert_eq!(
            hosts_of("millrace", engines),
            "# by podman\n10.89.0.5 eager_lamport\n10.89.0.1 host.containers.internal millrace-2\n127.0.1.1 millrace\n"
        );
        assert_eq!(hosts_of("millrace", ""), "127.0.1.1 millrace\n");
    }

    #[test]
    fn resolvers_are_read_as_the_c_library_reads_them() {
        let text = "search example.org\nnameserver 127.0.0.11\n#nameserver 10.0.0.1\n nameserver\t::1 \noptions ndots:0\nnameserver\nnameserver x\n";
        let found: Vec<String> = resolvers_in(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["127.0.0.11", "::1"]);
        assert!(resolvers_in(NO_RESOLVER).is_empty());
    }

    #[test]
    fn this_machine_has_a_name() {
        let name = own_name().unwrap();
        assert!(!name.is_empty() && !name.contains(char::is_whitespace));
    }
}
