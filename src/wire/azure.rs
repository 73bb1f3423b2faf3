//! What Azure says a machine is (protocol.md 2.4): region and resource id, from the metadata service
//! of the host or of Azure Arc. Asked only where there is one to ask: plain HTTP, never by a proxy.

use crate::base::files;
use crate::host::layout::Layout;
use crate::wire::http;
use crate::wire::metadata::MachineIds;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Where every Azure host answers.
const HOST: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
const HOST_PATH: &str = "/metadata/instance?api-version=2017-12-01";
const ARC_PATH: &str = "/metadata/instance?api-version=2019-08-15";
/// Azure Arc's agent says here where it answers.
const ARC_CONF: &str = "/lib/systemd/system.conf.d/azcmagent.conf";
/// Wins over everything, if it is not empty.
const OVERRIDE: &str = "customResourceId";
/// An id with this in it is a cluster's, and stays.
const CLUSTER: &str = "Microsoft.ContainerService";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer and largest file that are read.
const LIMIT: u64 = 256 << 10;

/// Where a machine is; empty: not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// E.g. `westeurope`.
    pub region: String,
    /// `/subscriptions/...`.
    pub resource_id: String,
}

impl Place {
    /// The id to tell, when `configured` is written in omsadmin.conf.
    pub fn resource_id(&self, configured: &str) -> String {
        let forced = std::env::var(OVERRIDE).unwrap_or_default();
        let choice = match () {
            () if !forced.is_empty() => &forced,
            () if configured.contains(CLUSTER) || self.resource_id.is_empty() => configured,
            () => &self.resource_id,
        };
        // It becomes a header.
        choice
            .chars()
            .filter(char::is_ascii_graphic)
            .take(1024)
            .collect()
    }
}

/// A metadata service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    address: SocketAddr,
    path: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    compute: Compute,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Compute {
    location: String,
    name: String,
    subscription_id: String,
    resource_group_name: String,
    vm_scale_set_name: String,
    #[serde(alias = "resourceID")]
    resource_id: String,
}

impl Metadata {
    /// The one of this machine: by the asset tag that Azure gives its hosts, or by Arc's file.
    pub fn find(layout: &Layout) -> Option<Metadata> {
        let conf = files::read_text(&layout.path(ARC_CONF), LIMIT as usize);
        if let Some(address) = conf.ok().flatten().as_deref().and_then(arc) {
            let path = ARC_PATH;
            return Some(Metadata { address, path });
        }
        let azure = !MachineIds::read(layout).cloud_id.is_empty();
        azure.then(|| Metadata {
            address: HOST.into(),
            path: HOST_PATH,
        })
    }

    /// Asks it.
    pub fn ask(&self) -> Result<Place> {
        let what = || format!("the metadata service at {} does not answer", self.address);
        let mut stream =
            TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT).with_context(what)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nMetadata: true\r\nConnection: close\r\n\r\n",
            self.path, self.address
        );
        stream.write_all(request.as_bytes()).with_context(what)?;
        let mut bytes = Vec::new();
        stream
            .take(LIMIT)
            .read_to_end(&mut bytes)
            .with_context(what)?;
        let answer = http::whole_answer(&bytes).with_context(what)?;
        if answer.status != 200 {
            bail!("the metadata service answered {}", answer.status);
        }
        let answer: Answer = serde_json::from_slice(&answer.body)
            .context("the metadata service's answer cannot be read")?;
        Ok(answer.compute.place())
    }
}

impl Compute {
    fn place(self) -> Place {
        let resource_id = match () {
            () if !self.resource_id.is_empty() => self.resource_id,
            () if self.subscription_id.is_empty() || self.name.is_empty() => String::new(),
            () => {
                let machine = match self.vm_scale_set_name.as_str() {
                    "" => format!("virtualMachines/{}", self.name),
                    set => format!(
                        "virtualMachineScaleSets/{set}/virtualMachines/{}",
                        self.name.rsplit('_').next().unwrap_or_default()
                    ),
                };
                format!(
                    "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/{machine}",
                    self.subscription_id, self.resource_group_name
                )
            }
        };
        Place {
            region: self
                .location
                .chars()
                .filter(char::is_ascii_graphic)
                .take(64)
                .collect(),
            resource_id,
        }
    }
}

/// The address in `"IMDS_ENDPOINT=http://localhost:40342"`.
fn arc(conf: &str) -> Option<SocketAddr> {
    let (_, rest) = conf.split_once("\"IMDS_ENDPOINT=")?;
    let url = rest.split('"').next()?;
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let authority = authority.replace("localhost", "127.0.0.1");
    let with_port = match authority.contains(':') {
        true => authority,
        false => format!("{authority}:80"),
    };
    // Arc's agent is on this machine; anything else is no answer to "where am I".
    let address: SocketAddr = with_port.parse().ok()?;
    address.ip().is_loopback().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(reply: &'static str) -> Result<Place> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            stream.write_all(reply.as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        let place = Metadata {
            address,
            path: HOST_PATH,
        }
        .ask();
        let head = server.join().unwrap();
        assert!(head.starts_with("GET /metadata/instance?api-version=2017-12-01 HTTP/1.1\r\n"));
        assert!(head.contains("\r\nMetadata: true\r\n"), "{head}");
        place
    }

    #[test]
    fn machines_members_of_sets_and_arc() {
        let machine = answered(
            "HTTP/1.1 200 OK\r\nContent-Length: 107\r\n\r\n{\"compute\":{\"location\":\"westeurope\",\"name\":\"web 1\",\"subscriptionId\":\"s\",\"resourceGroupName\":\"g\",\"vmScaleSetName\":\"\"}}",
        );
        // The length says less than there is: cut off is no answer.
        assert!(machine.is_err());
        let machine = answered(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"compute\":{\"location\":\"westeurope\",\"name\":\"web1\",\"subscriptionId\":\"s\",\"resourceGroupName\":\"g\"}}",
        )
        .unwrap();
        assert_eq!(machine.region, "westeurope");
        assert_eq!(
            machine.resource_id,
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web1"
        );
        let member = Compute {
            name: "set_x_12".into(),
            subscription_id: "s".into(),
            resource_group_name: "g".into(),
            vm_scale_set_name: "set".into(),
            ..Compute::default()
        };
        assert!(
            member
                .place()
                .resource_id
                .ends_with("/virtualMachineScaleSets/set/virtualMachines/12")
        );
        let arc = answered(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"compute\":{\"location\":\"l\",\"resourceID\":\"/subscriptions/a\"}}",
        );
        assert_eq!(arc.unwrap().resource_id, "/subscriptions/a");
        assert!(answered("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(answered("rubbish").is_err());
    }

    #[test]
    fn it_is_asked_only_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(Metadata::find(&layout), None);
        let tag = layout.path("/sys/devices/virtual/dmi/id/chassis_asset_tag");
        std::fs::create_dir_all(tag.parent().unwrap()).unwrap();
        std::fs::write(&tag, "7783-7084-3265-9085-8269-3286-77\n").unwrap();
        assert_eq!(Metadata::find(&layout).unwrap().address, HOST.into());
        let conf = layout.path(ARC_CONF);
        std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
        std::fs::write(
            &conf,
            "[Manager]\nDefaultEnvironment=\"IMDS_ENDPOINT=http://localhost:40342\" \"X=y\"\n",
        )
        .unwrap();
        let arc = Metadata::find(&layout).unwrap();
        assert_eq!(arc.address, "127.0.0.1:40342".parse().unwrap());
        std::fs::write(&conf, "\"IMDS_ENDPOINT=http://10.0.0.1:40342\"").unwrap();
        assert_eq!(Metadata::find(&layout).unwrap().address, HOST.into());
    }

    #[test]
    fn which_id_counts() {
        let place = Place {
            region: String::new(),
            resource_id: "/here".into(),
        };
        assert_eq!(place.resource_id("/configured"), "/here");
        assert_eq!(
            place.resource_id("/x/Microsoft.ContainerService/y"),
            "/x/Microsoft.ContainerService/y"
        );
        assert_eq!(
            Place::default().resource_id("/configured\r\nX: y"),
            "/configuredX:y"
        );
    }
}
