//! Many datagrams of strangers by one system call.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{SockAddr, SockAddrStorage};

use super::UdpSocket;
use super::control::Control;
use super::receive::received_from;
use crate::cvt::{cvt, retry};

/// Room for the datagrams of one call, used again and again.
pub struct Batch {
    octets: Vec<u8>,
    /// Room per datagram.
    len: usize,
    controls: Vec<Control>,
    names: Vec<SockAddrStorage>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    len: usize,
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
}

/// One datagram of a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct BatchItem<'b> {
    /// Its octets.
    pub bytes: &'b [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// The local address it was sent to, if [`UdpSocket::receive_local_address`] is on.
    pub local: Option<IpAddr>,
}

impl Batch {
    /// Room for `count` datagrams of at most `len` octets; what is longer is cut.
    pub fn new(count: usize, len: usize) -> Self {
        Self {
            octets: vec![0; count * len],
            len,
            controls: (0..count).map(|_| Control::new()).collect(),
            names: (0..count).map(|_| SockAddrStorage::zeroed()).collect(),
            items: Vec::with_capacity(count),
        }
    }

    /// What the last call received.
    pub fn iter(&self) -> impl Iterator<Item = BatchItem<'_>> {
        self.octets
            .chunks(self.len.max(1))
            .zip(&self.items)
            .filter_map(|(room, item)| {
                Some(BatchItem {
                    bytes: room.get(..item.len)?,
                    peer: item.peer?,
                    local: item.local,
                })
            })
    }

    /// True when the last call received as much as there is room for.
    pub fn is_full(&self) -> bool {
        self.items.len() == self.controls.len()
    }
}

impl UdpSocket {
    /// Receives the datagrams that are there, as many as `batch` holds.
    ///
    /// # Errors
    /// `WouldBlock` when there are none.
    pub fn receive_batch(&self, batch: &mut Batch) -> io::Result<()> {
        batch.items.clear();
        let count = batch.controls.len();
        let mut vectors = Vec::with_capacity(count);
        for room in batch.octets.chunks_mut(batch.len.max(1)) {
            vectors.push(libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            });
        }
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(count);
        for ((vector, control), name) in vectors.iter_mut().zip(&mut batch.controls).zip(&mut batch.names) {
            // SAFETY: mmsghdr is a plain C structure for which zeroes are valid.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr();
            header.msg_hdr.msg_controllen = Control::LEN as _;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = name.size_of();
            headers.push(header);
        }
        // SAFETY: every pointer in `headers` is writable for the length beside it and outlives the
        // call.
        let received = retry(|| {
            cvt(unsafe {
                libc::recvmmsg(
                    self.socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            })
        })?;
        let received = usize::try_from(received).unwrap_or(0);
        for (header, name) in headers.iter().zip(&mut batch.names).take(received) {
            let len = header.msg_len as usize;
            let name = std::mem::replace(name, SockAddrStorage::zeroed());
            // SAFETY: the kernel has filled in an address of this length.
            let address = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) };
            let peer = address.as_socket();
            let local = peer.and_then(|peer| received_from(len, peer, &header.msg_hdr).local);
            batch.items.push(Item { len, peer, local });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoll::{Events, Interest, Poller};

    #[test]
    fn a_batch_holds_several_senders() {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.receive_local_address(true).unwrap();
        let address = socket.local_addr().unwrap();
        let mut batch = Batch::new(2, 8);
        assert_eq!(
            socket.receive_batch(&mut batch).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let clients: Vec<UdpSocket> = (0..3)
            .map(|_| UdpSocket::connected(None, address).unwrap())
            .collect();
        for (number, client) in clients.iter().enumerate() {
            client.send(&[number as u8; 10], 10, None).unwrap();
        }
        let poller = Poller::new().unwrap();
        poller.add(&socket, 0, Interest::READ).unwrap();
        let mut got = Vec::new();
        while got.len() < 3 {
            poller.wait(&mut Events::with_capacity(1), None).unwrap();
            socket.receive_batch(&mut batch).unwrap();
            for item in batch.iter() {
                assert_eq!((item.bytes.len(), item.local), (8, Some(address.ip())));
                got.push((item.bytes[0], item.peer));
            }
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(got[number], (number as u8, client.local_addr().unwrap()));
        }
    }
}
