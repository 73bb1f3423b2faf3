//! For tests: a private authority, a TLS server that answers what it is told to, and a proxy.
//! Everything is on 127.0.0.1, on ports of the system's choice.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ServerConfig, ServerConnection, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A certificate authority of one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { issuer, pem }
    }

    /// Its certificate as a CA file in `dir`.
    pub(crate) fn ca_file(&self, dir: &Path) -> PathBuf {
        let path = dir.join("test-ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }

    /// A server certificate for `names`, valid between the years (January 1st).
    pub(crate) fn issue(&self, names: &[&str], years: (i32, i32)) -> Pair {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }
}

/// A server's certificate and key.
pub(crate) struct Pair {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Number of the connection it came on, from 0.
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The client's certificate.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// Writes and waits for the next request.
    Say(String),
    /// Writes and closes, with TLS' goodbye.
    SayAndClose(String),
    /// Keeps silent that long, then closes.
    Silence(Duration),
}

/// `HTTP/1.1 <status>` with these headers (each with its line end) and body.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Say(format!(
        "HTTP/1.1 {status} Reason\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

/// A listening socket with a thread; stops when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// A TLS server that asks for a client certificate and accepts any.
    pub(crate) fn start(
        pair: Pair,
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(AcceptAny(provider)))
            .with_single_cert(pair.chain, pair.key)
            .unwrap();
        let config = Arc::new(config);
        let reply = Arc::new(reply);
        Self::listen(move |number, tcp, seen| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, tcp);
            while let Some((head, body)) = read_request(&mut stream) {
                let certificate = stream.conn.peer_certificates();
                let request = Seen {
                    connection: number,
                    head,
                    body,
                    certificate: certificate.map(|c| c[0].to_vec()),
                };
                seen.lock().unwrap().push(request.clone());
                match reply(&request) {
                    Reply::Say(text) => stream.write_all(text.as_bytes()).unwrap(),
                    Reply::SayAndClose(text) => {
                        stream.write_all(text.as_bytes()).unwrap();
                        break;
                    }
                    Reply::Silence(long) => {
                        std::thread::sleep(long);
                        return;
                    }
                }
            }
            stream.conn.send_close_notify();
            let _ = stream.flush();
        })
    }

    /// A proxy that answers each CONNECT with `status` and, when that is 200, forwards whatever
    /// name was asked for to `to`, a port on 127.0.0.1.
    pub(crate) fn proxy(status: u16, to: u16) -> Self {
        Self::listen(move |number, mut tcp, seen| {
            let Some((head, body)) = read_request(&mut tcp) else {
                return;
            };
            seen.lock().unwrap().push(Seen {
                connection: number,
                head,
                body,
                certificate: None,
            });
            write!(tcp, "HTTP/1.1 {status} Reason\r\nX: y\r\n\r\n").unwrap();
            if status != 200 {
                return;
            }
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let mut pairs = [
                (tcp.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, tcp),
            ];
            std::thread::scope(|scope| {
                for (from, to) in &mut pairs {
                    scope.spawn(move || {
                        let _ = std::io::copy(from, to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            });
        })
    }

    /// A server that treats each connection as `serve` says; plain TCP.
    pub(crate) fn listen(
        serve: impl Fn(usize, TcpStream, &Mutex<Vec<Seen>>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, record) = (Arc::clone(&stop), Arc::clone(&seen));
        let serve = Arc::new(serve);
        let count = AtomicUsize::new(0);
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (serve, record) = (Arc::clone(&serve), Arc::clone(&record));
                let number = count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let tcp = tcp.unwrap();
                    let limit = Some(Duration::from_secs(20));
                    tcp.set_read_timeout(limit).unwrap();
                    serve(number, tcp, &record);
                });
            }
        });
        Server { port, seen, stop }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Head and body of one request; `None` when the stream ends or fails before.
fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl ClientCertVerifier for AcceptAny {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
