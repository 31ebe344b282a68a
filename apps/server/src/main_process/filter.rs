//! Programs by which the kernel drops what no DTLS client sends, before it costs us anything.

use culvert_sys::udp::Instruction;

/// Octets of a UDP header, at which a filter begins.
const PAYLOAD: u32 = 8;
/// Accept the whole datagram.
const ACCEPT: u32 = u32::MAX;

/// Content types of records (RFC 6347 §4.1).
const CHANGE_CIPHER_SPEC: u32 = 20;
const HANDSHAKE: u32 = 22;
const APPLICATION_DATA: u32 = 23;
/// Versions: DTLS 1.2, DTLS 1.0, and Cisco's of before the RFC.
const VERSIONS: [u32; 3] = [0xfefd, 0xfeff, 0x0100];
/// Least first octet of the SPIs that are given to clients.
const ESP: u32 = 0x40;
/// First message of a handshake.
const CLIENT_HELLO: u32 = 1;

/// Datagrams that begin with a record header, or with `esp` what may be an ESP packet: for sockets with
/// the packets of many clients.
pub(super) fn records(esp: bool) -> Vec<Instruction> {
    let mut program = self::esp(esp);
    program.extend(header());
    program.extend([ret(ACCEPT), ret(0)]);
    finish(program)
}

/// Datagrams that may be the first on a path: a ClientHello, an encrypted record, or with `esp` what
/// may be an ESP packet. For sockets that get nothing else.
pub(super) fn first_datagrams(esp: bool) -> Vec<Instruction> {
    let mut program = self::esp(esp);
    program.extend(header());
    program.extend([
        // Epoch; behind the first one nothing can be seen of a record.
        load_half(PAYLOAD + 3),
        jump_equal(0, 0, 4),
        load_octet(PAYLOAD),
        jump_equal(HANDSHAKE, 0, 3),
        load_octet(PAYLOAD + 13),
        jump_equal(CLIENT_HELLO, 0, 1),
        ret(ACCEPT),
        ret(0),
    ]);
    finish(program)
}

/// Accepts what may be an ESP packet, if that is `wanted`, and falls through otherwise.
fn esp(wanted: bool) -> Vec<Instruction> {
    match wanted {
        true => vec![load_octet(PAYLOAD), jump_at_least(ESP, 0, 1), ret(ACCEPT)],
        false => Vec::new(),
    }
}

/// Falls through when the datagram begins with a content type and a version of DTLS; otherwise the
/// jumps want to go to the last instruction of the program ([`finish`]).
fn header() -> Vec<Instruction> {
    let [newest, older, oldest] = VERSIONS;
    vec![
        load_octet(PAYLOAD),
        jump_at_least(CHANGE_CIPHER_SPEC, 0, TO_END),
        jump_greater(APPLICATION_DATA, TO_END, 0),
        load_half(PAYLOAD + 1),
        jump_equal(newest, 2, 0),
        jump_equal(older, 1, 0),
        jump_equal(oldest, 0, TO_END),
    ]
}

/// Stands for the distance to the last instruction.
const TO_END: u8 = u8::MAX;

fn finish(mut program: Vec<Instruction>) -> Vec<Instruction> {
    let last = program.len().saturating_sub(1);
    for (index, instruction) in program.iter_mut().enumerate() {
        // The programs here are short.
        let distance = u8::try_from(last.saturating_sub(index + 1)).unwrap_or(0);
        for jump in [&mut instruction.jump_true, &mut instruction.jump_false] {
            if *jump == TO_END {
                *jump = distance;
            }
        }
    }
    program
}

fn load_octet(at: u32) -> Instruction {
    Instruction::plain((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, at)
}

fn load_half(at: u32) -> Instruction {
    Instruction::plain((libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16, at)
}

fn ret(verdict: u32) -> Instruction {
    Instruction::plain((libc::BPF_RET | libc::BPF_K) as u16, verdict)
}

fn jump_equal(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    jump(libc::BPF_JEQ, operand, jump_true, jump_false)
}

fn jump_greater(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    jump(libc::BPF_JGT, operand, jump_true, jump_false)
}

fn jump_at_least(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    jump(libc::BPF_JGE, operand, jump_true, jump_false)
}

fn jump(condition: u32, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code: (libc::BPF_JMP | condition | libc::BPF_K) as u16,
        jump_true,
        jump_false,
        operand,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use culvert_dtls::{ClientConfig, Connection};
    use culvert_sys::epoll::{Events, Interest, Poller};
    use culvert_sys::udp::UdpSocket;
    use culvert_vocab::SecretBytes;

    use super::*;

    const MARK: &[u8] = &[23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 9, 9];

    /// Which of `datagrams` pass. Loopback keeps the order, so the mark at the end is the last.
    fn passing(program: &[Instruction], datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.set_filter(program).unwrap();
        let client = UdpSocket::connected(None, socket.local_addr().unwrap()).unwrap();
        for datagram in datagrams.iter().map(Vec::as_slice).chain([MARK]) {
            client.send(datagram, datagram.len(), None).unwrap();
        }
        let poller = Poller::new().unwrap();
        poller.add(&socket, 0, Interest::READ).unwrap();
        let (mut passed, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let deadline = Instant::now() + Duration::from_secs(10);
            poller
                .wait(&mut Events::with_capacity(1), Some(deadline))
                .unwrap();
            let received = socket.receive_from(&mut buffer).unwrap();
            if &buffer[..received.len] == MARK {
                return passed;
            }
            passed.push(buffer[..received.len].to_vec());
        }
    }

    #[test]
    fn clients_pass_and_junk_does_not() {
        let config = ClientConfig::new(SecretBytes::new(vec![7; 32]), vec![1; 32]);
        let hello = Connection::client(config, Instant::now())
            .poll_transmit()
            .unwrap();
        let record = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 5];
        let cisco = vec![23, 1, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 5];
        let mut finished = hello.clone();
        finished[13] = 16;
        let junk = [
            vec![0; 100],
            vec![255; 100],
            b"GET / HTTP/1.1".to_vec(),
            vec![23],
            vec![19, 0xfe, 0xfd, 0, 1],
            vec![24, 0xfe, 0xfd, 0, 1],
            vec![23, 3, 3, 0, 1],
        ];
        let mut all = junk.to_vec();
        all.extend([hello.clone(), record.clone(), cisco.clone(), finished.clone()]);
        assert_eq!(
            passing(&records(false), &all),
            [hello.clone(), record.clone(), cisco.clone(), finished.clone()]
        );
        let esp = vec![0x40; 60];
        assert_eq!(
            passing(&records(true), &[esp.clone(), hello.clone()]),
            [esp, hello.clone()]
        );
        let plain_data = vec![23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 5];
        all.push(plain_data);
        let first = [hello, record, cisco];
        assert_eq!(passing(&first_datagrams(false), &all), first);
        all.push(vec![0x40; 60]);
        assert_eq!(passing(&first_datagrams(false), &all), first);
        let with_esp = passing(&first_datagrams(true), &all);
        assert_eq!(with_esp.last(), Some(&vec![0x40; 60]));
        assert!(first.iter().all(|datagram| with_esp.contains(datagram)));
    }
}
