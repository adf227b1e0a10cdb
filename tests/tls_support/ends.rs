//! The two ends around a gateway with TLS: a client and an MCP server, both of rustls in blocking form.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::support::{call, field, listen, read_answer, read_head, read_up_to};

/// A connection that hands over what is written in pieces of at most so many bytes.
pub struct Dripping {
    /// The connection.
    pub stream: TcpStream,
    /// Bytes of one piece.
    pub piece: usize,
}

impl Read for Dripping {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.stream.read(room)
    }
}

impl Write for Dripping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(&bytes[..bytes.len().min(self.piece)])
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A client.
pub struct Client {
    /// Its end of the connection.
    pub tls: StreamOwned<ClientConnection, Dripping>,
    kept: Vec<u8>,
}

/// The name that the gateway's certificate is for.
pub const NAME: &str = "gateway.example.test";

impl Client {
    /// Connects; the handshake is done with the first bytes.
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Client {
        Client::connect_as(address, config, NAME, usize::MAX)
    }

    /// Connects to `name`, writing pieces of at most `piece` bytes.
    pub fn connect_as(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
        piece: usize,
    ) -> Client {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(config.clone(), name).expect("a client");
        Client { tls: StreamOwned::new(connection, Dripping { stream, piece }), kept: Vec::new() }
    }

    /// Does the handshake.
    pub fn shake(&mut self) -> io::Result<()> {
        while self.tls.conn.is_handshaking() {
            let result = self.tls.conn.complete_io(&mut self.tls.sock);
            // An alert may wait behind other records.
            while result.is_err() && self.tls.conn.wants_write() {
                self.tls.conn.write_tls(&mut self.tls.sock)?;
            }
            result?;
        }
        Ok(())
    }

    /// One call of the tool `echo`: status and body.
    pub fn call(&mut self, token: &str, id: u64, text: &str) -> io::Result<(u16, String)> {
        self.tls.write_all(&call("/tools", token, id, text))?;
        self.answer()
    }

    /// The answer that comes next: status and body.
    pub fn answer(&mut self) -> io::Result<(u16, String)> {
        let mut all = Vec::new();
        let (status, body) = read_answer(&mut self.tls, &mut self.kept, &mut all)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// A call whose bytes leave in one write with the last flight of a TLS 1.3 handshake; gives how many
    /// bytes that flight has.
    pub fn call_in_one(&mut self, token: &str, text: &str) -> io::Result<usize> {
        let connection = &mut self.tls.conn;
        let socket = &mut self.tls.sock.stream;
        connection.set_buffer_limit(None);
        while connection.wants_write() {
            connection.write_tls(socket)?;
        }
        while connection.is_handshaking() {
            connection.read_tls(socket)?;
            connection.process_new_packets().map_err(io::Error::other)?;
        }
        let mut out = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut out)?;
        }
        let flight = out.len();
        connection.writer().write_all(&call("/tools", token, 1, text))?;
        while connection.wants_write() {
            connection.write_tls(&mut out)?;
        }
        socket.write_all(&out)?;
        Ok(flight)
    }

    /// The record with this text, which is not sent.
    pub fn record(&mut self, text: &[u8]) -> io::Result<Vec<u8>> {
        self.tls.conn.writer().write_all(text)?;
        let mut record = Vec::new();
        while self.tls.conn.wants_write() {
            self.tls.conn.write_tls(&mut record)?;
        }
        Ok(record)
    }

    /// The same as [`Client::call`], and the exchange id of the answer.
    pub fn call_for_id(&mut self, token: &str, id: u64, text: &str) -> (u16, String) {
        self.tls.write_all(&call("/tools", token, id, text)).expect("sent");
        let mut all = Vec::new();
        let (status, _) = read_answer(&mut self.tls, &mut self.kept, &mut all).expect("an answer");
        (status, field(&all, "stenograph-exchange").expect("an id").to_owned())
    }

    /// The channel binding as this end derives it.
    pub fn exporter(&self) -> String {
        let value = self
            .tls
            .conn
            .export_keying_material([0u8; 32], b"EXPORTER-Channel-Binding", Some(&[]))
            .expect("the handshake is over");
        value.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The certificate that the gateway showed.
    pub fn shown(&self) -> Vec<u8> {
        self.tls.conn.peer_certificates().expect("shown")[0].to_vec()
    }
}

/// The certificate of a client, DER, and the name that it asked for.
pub type Shown = (Option<Vec<u8>>, Option<String>);

/// What the server has seen.
#[derive(Default)]
pub struct Seen {
    /// Connections whose handshake was done.
    pub connections: AtomicU64,
    /// Requests.
    pub requests: AtomicU64,
    /// For each connection.
    pub clients: Mutex<Vec<Shown>>,
}

/// An MCP server that answers each call with its own text.
pub fn start_server(config: Option<Arc<ServerConfig>>) -> (SocketAddr, Arc<Seen>) {
    let (listener, address) = listen();
    let seen: Arc<Seen> = Arc::default();
    let told = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, seen) = (config.clone(), told.clone());
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                match config {
                    None => serve(stream, &seen, |_| {}),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a server");
                        let mut tls = StreamOwned::new(connection, stream);
                        while tls.conn.is_handshaking() {
                            tls.conn.complete_io(&mut tls.sock).ok()?;
                        }
                        let shown = tls.conn.peer_certificates().map(|all| all[0].to_vec());
                        let name = tls.conn.server_name().map(str::to_owned);
                        seen.clients.lock().expect("no panic").push((shown, name));
                        seen.connections.fetch_add(1, Ordering::SeqCst);
                        serve(tls, &seen, |tls| {
                            // New keys behind each answer: TLS speaks, the server does not. In
                            // TLS 1.2 there is no such thing.
                            let _ = tls.conn.refresh_traffic_keys();
                            let _ = tls.flush();
                        })
                    }
                }
            });
        }
    });
    (address, seen)
}

fn serve<S: Read + Write>(mut stream: S, seen: &Seen, answered: impl Fn(&mut S)) -> Option<()> {
    let mut kept = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
        let length =
            field(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        read_up_to(&mut stream, &mut kept, length).ok()?;
        let rest = kept.split_off(length);
        let body = std::mem::replace(&mut kept, rest);
        seen.requests.fetch_add(1, Ordering::SeqCst);
        let message: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let answer = serde_json::json!({
            "jsonrpc": "2.0",
            "id": message["id"],
            "result": { "content": [{
                "type": "text",
                "text": message["params"]["arguments"]["text"],
            }] },
        })
        .to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(answer.as_bytes()).ok()?;
        stream.flush().ok()?;
        answered(&mut stream);
    }
    Some(())
}
