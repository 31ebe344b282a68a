use culvert_tunnel::offload::{Coalescer, is_user_data};
use culvert_wire::compress::{Method, compress, decompress};
use culvert_wire::ip::PacketInfo;

/// Longest result that is asked for.
const LONGEST: usize = 2048;

/// Compressed packets of a peer; and packets that are compressed come back.
pub(crate) fn compression(data: &[u8]) {
    let mut out = vec![0; LONGEST];
    let _ = culvert_esp::lzo::decompress(data, &mut out);
    for method in [Method::Lz4, Method::Lzs] {
        let _ = decompress(method, data, &mut out);
        let mut room = vec![0; data.len() + data.len() / 4 + 64];
        let packet = data.get(..LONGEST).unwrap_or(data);
        if let Some(len) = compress(method, packet, &mut room) {
            let restored = decompress(method, room.get(..len).unwrap_or_default(), &mut out);
            assert_eq!(restored.ok(), Some(packet.len()));
        }
    }
}

/// Packets of a peer on their way to the device: length (two octets), content, and so on.
pub(crate) fn inner(data: &[u8]) {
    let mut buffer = data.to_vec();
    let mut coalescer = Coalescer::new(true, true);
    let mut at = 0;
    while let Some(length) = data.get(at..at + 2) {
        let length = length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
        let packet = at + 2..(at + 2 + length).min(data.len());
        at = packet.end;
        let bytes = data.get(packet.clone()).unwrap_or_default();
        let _ = (PacketInfo::parse(bytes), is_user_data(bytes));
        coalescer.push(&buffer, packet);
        if coalescer.is_full() {
            break;
        }
    }
    coalescer.flush(&mut buffer, |_, _| {});
}
