//! Somebody in the middle of an unencrypted connection, who keeps every byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Fault;

/// Passes connections on and keeps what goes over them.
#[derive(Debug)]
pub struct Listener {
    /// Where to connect instead.
    pub at: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Listener {
    /// In front of an address. It passes on until this process ends.
    pub fn new(to: SocketAddr) -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (at, heard) = (listener.local_addr()?, Arc::new(Mutex::new(Vec::new())));
        let keeping = Arc::clone(&heard);
        std::thread::Builder::new().name("listener".to_owned()).spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { continue };
                let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
                for (from, to) in [(near, far_too), (far, near_too)] {
                    let heard = Arc::clone(&keeping);
                    std::thread::spawn(move || pass(from, to, &heard));
                }
            }
        })?;
        Ok(Self { at, heard })
    }

    /// Everything that went over it, in both directions.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, heard: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(read) = from.read(&mut chunk) {
        let bytes = chunk.get(..read).unwrap_or_default();
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        if read == 0 || to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
