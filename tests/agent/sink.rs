//! A TLS server that takes uploads, or does to them what the test says.

use crate::stage::{authority, number_in};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What to answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub header: Option<(&'static str, &'static str)>,
    /// The items count as taken, whatever the status.
    pub store: bool,
    /// Hang up without an answer.
    pub hang_up: bool,
    pub delay: Duration,
    /// The script has kept what it needs: there will be too many.
    pub forget: bool,
}

impl Reply {
    pub fn ok() -> Self {
        Reply {
            status: 200,
            header: None,
            store: true,
            hang_up: false,
            delay: Duration::ZERO,
            forget: false,
        }
    }

    pub fn status(status: u16) -> Self {
        Reply {
            status,
            store: false,
            ..Reply::ok()
        }
    }
}

/// One upload as it came.
#[derive(Debug, Clone)]
pub struct Upload {
    pub at: Instant,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Value,
    pub size: usize,
}

impl Upload {
    pub fn items(&self) -> &Vec<Value> {
        self.body["DataItems"].as_array().unwrap()
    }

    /// Numbers in the messages of a list of records.
    pub fn records(&self) -> Vec<u32> {
        let records = self.body.as_array().into_iter().flatten();
        let messages = records.filter_map(|r| r["message"].as_str());
        messages.filter_map(number_in).collect()
    }

    pub fn is_syslog(&self) -> bool {
        self.body["DataType"] == "LINUX_SYSLOGS_BLOB"
    }

    pub fn numbers(&self) -> Vec<u32> {
        let messages = self.items().iter().filter_map(|i| i["Message"].as_str());
        messages.filter_map(number_in).collect()
    }
}

type Script = Box<dyn FnMut(&Upload) -> Reply + Send>;

struct State {
    script: Script,
    taken: Vec<Upload>,
    tried: Vec<Upload>,
}

pub struct Sink {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Sink {
    pub fn start(script: impl FnMut(&Upload) -> Reply + Send + 'static) -> Sink {
        Sink::at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub fn at(address: SocketAddr, script: impl FnMut(&Upload) -> Reply + Send + 'static) -> Sink {
        let listener = TcpListener::bind(address).unwrap();
        let issued = authority()
            .issue(&["localhost".to_owned()], &[[127, 0, 0, 1].into()])
            .unwrap();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes())
            .map(Result::unwrap)
            .collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.expose().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let sink = Sink {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                script: Box::new(script),
                taken: Vec::new(),
                tried: Vec::new(),
            })),
        };
        let state = Arc::clone(&sink.state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, state) = (Arc::clone(&config), Arc::clone(&state));
                std::thread::spawn(move || {
                    let _ = serve(stream.unwrap(), config, &state);
                });
            }
        });
        sink
    }

    pub fn url(&self) -> String {
        format!(
            "https://{}/OperationalData.svc/PostJsonDataItems",
            self.address
        )
    }

    pub fn script(&self, script: impl FnMut(&Upload) -> Reply + Send + 'static) {
        self.state.lock().unwrap().script = Box::new(script);
    }

    pub fn taken(&self) -> Vec<Upload> {
        self.state.lock().unwrap().taken.clone()
    }

    /// Syslog uploads that came, whatever was answered.
    pub fn tried(&self) -> Vec<Upload> {
        let tried = self.state.lock().unwrap().tried.clone();
        tried.into_iter().filter(Upload::is_syslog).collect()
    }

    /// Numbers of the syslog items that were taken, in order of arrival.
    pub fn numbers(&self) -> Vec<u32> {
        let taken = self.taken();
        let taken = taken.iter().filter(|u| u.is_syslog());
        taken.flat_map(Upload::numbers).collect()
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let tls = rustls::ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(rustls::StreamOwned::new(tls, stream));
    loop {
        let Some(upload) = read(&mut stream)? else {
            return Ok(());
        };
        let reply = {
            let mut state = state.lock().unwrap();
            let reply = (state.script)(&upload);
            if !reply.forget {
                state.tried.push(upload.clone());
            }
            if reply.store && !reply.forget {
                state.taken.push(upload);
            }
            reply
        };
        std::thread::sleep(reply.delay);
        if reply.hang_up {
            return Ok(());
        }
        let header = reply.header.map(|(n, v)| format!("{n}: {v}\r\n"));
        let head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: 0\r\n{}\r\n",
            reply.status,
            header.unwrap_or_default()
        );
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().flush()?;
    }
}

fn read(stream: &mut impl BufRead) -> std::io::Result<Option<Upload>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap().to_owned();
    assert!(line.starts_with("POST "), "{line}");
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body)?;
    assert_eq!(headers["content-encoding"], "deflate");
    let mut json = Vec::new();
    flate2::read::ZlibDecoder::new(&body[..]).read_to_end(&mut json)?;
    Ok(Some(Upload {
        at: Instant::now(),
        path,
        headers,
        size: json.len(),
        body: serde_json::from_slice(&json).expect("an upload must be JSON"),
    }))
}
