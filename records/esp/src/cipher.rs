//! AES-CBC over whole blocks, in place.

use aes::cipher::consts::U16;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockDecryptMut, BlockEncrypt, BlockEncryptMut, BlockSizeUser, InnerIvInit, KeyInit};
use aes::{Aes128, Aes256, Block};
use culvert_sys::lanes::{LANES, aes_cbc};

use crate::association::{Association, Encryption, KeyError};
use crate::packet::BLOCK;

/// An expanded key. Boxed: the schedules are large and live as long as the association.
pub(crate) struct Cipher {
    aes: Aes,
    /// The same key, where the processor has instructions for several blocks.
    wide: Option<Box<aes_cbc::Key>>,
}

enum Aes {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Cipher {
    pub(crate) fn new(association: &Association) -> Result<Self, KeyError> {
        let (encryption, key) = (association.encryption(), association.encryption_key());
        let wrong_length = |_| KeyError::Length {
            what: "encryption",
            len: key.len(),
            expected: encryption.key_len(),
        };
        let aes = match encryption {
            Encryption::Aes128Cbc => Aes128::new_from_slice(key.expose())
                .map(|aes| Aes::Aes128(Box::new(aes)))
                .map_err(wrong_length),
            Encryption::Aes256Cbc => Aes256::new_from_slice(key.expose())
                .map(|aes| Aes::Aes256(Box::new(aes)))
                .map_err(wrong_length),
        };
        Ok(Self {
            aes: aes?,
            wide: aes_cbc::Key::new(key.expose()).map(Box::new),
        })
    }

    /// True when several packets at a time are much faster than one after the other.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide.is_some()
    }

    /// `blocks` is a multiple of [`BLOCK`].
    pub(crate) fn encrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(blocks).into_chunks();
        match &self.aes {
            Aes::Aes128(aes) => {
                cbc::Encryptor::inner_iv_init(&**aes, &iv.into()).encrypt_blocks_inout_mut(blocks);
            }
            Aes::Aes256(aes) => {
                cbc::Encryptor::inner_iv_init(&**aes, &iv.into()).encrypt_blocks_inout_mut(blocks);
            }
        }
    }

    /// Encrypts several packets of equal length, each an IV with the blocks behind it: CBC must wait
    /// for one block before the next of the same packet, not for those of others. An empty one
    /// is no packet.
    pub(crate) fn encrypt_lanes(&self, packets: &mut [&mut [u8]; LANES]) {
        match (&self.wide, &self.aes) {
            (Some(wide), _) => wide.encrypt(packets),
            (None, Aes::Aes128(aes)) => encrypt_lanes(&**aes, packets),
            (None, Aes::Aes256(aes)) => encrypt_lanes(&**aes, packets),
        }
    }

    /// `blocks` is a multiple of [`BLOCK`].
    pub(crate) fn decrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        if let Some(wide) = &self.wide {
            return wide.decrypt(&iv, blocks);
        }
        let (blocks, _) = InOutBuf::from(blocks).into_chunks();
        match &self.aes {
            Aes::Aes128(aes) => {
                cbc::Decryptor::inner_iv_init(&**aes, &iv.into()).decrypt_blocks_inout_mut(blocks);
            }
            Aes::Aes256(aes) => {
                cbc::Decryptor::inner_iv_init(&**aes, &iv.into()).decrypt_blocks_inout_mut(blocks);
            }
        }
    }
}

fn encrypt_lanes<A>(aes: &A, packets: &mut [&mut [u8]; LANES])
where
    A: BlockEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let block_of = |octets: &[u8; BLOCK]| u128::from_ne_bytes(*octets);
    let len = packets.iter().map(|packet| packet.len()).max().unwrap_or(0);
    let mut chains = [Block::default(); LANES];
    for (chain, packet) in chains.iter_mut().zip(packets.iter()) {
        if let Some(iv) = packet.first_chunk::<BLOCK>() {
            *chain = (*iv).into();
        }
    }
    for number in 1..len / BLOCK {
        for (chain, packet) in chains.iter_mut().zip(packets.iter()) {
            if let Some(block) = packet.as_chunks::<BLOCK>().0.get(number) {
                *chain = (block_of(block) ^ block_of(chain.as_ref())).to_ne_bytes().into();
            }
        }
        aes.encrypt_blocks(&mut chains);
        for (chain, packet) in chains.iter().zip(packets.iter_mut()) {
            if let Some(block) = packet.as_chunks_mut::<BLOCK>().0.get_mut(number) {
                *block = (*chain).into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_vocab::SecretBytes;
    use proptest::prelude::*;

    use super::*;
    use crate::association::{Integrity, Spi};

    fn cipher(encryption: Encryption) -> Cipher {
        let association = Association::new(
            Spi::from_random([9; 4]),
            encryption,
            SecretBytes::new((1..=encryption.key_len() as u8).collect()),
            Integrity::HmacSha1,
            SecretBytes::new(vec![2; 20]),
        );
        Cipher::new(&association.unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        /// With and without instructions for several blocks, many packets at a time and singly.
        #[test]
        fn all_ways_agree(
            aes_256: bool,
            blocks in 1usize..100,
            used in 0..=LANES,
            octets in prop::collection::vec(any::<u8>(), 1..50),
        ) {
            let encryption = if aes_256 { Encryption::Aes256Cbc } else { Encryption::Aes128Cbc };
            let (wide, mut narrow) = (cipher(encryption), cipher(encryption));
            narrow.wide = None;
            let packets: Vec<Vec<u8>> = (0..LANES)
                .map(|lane| {
                    let len = if lane < used { (blocks + 1) * BLOCK } else { 0 };
                    octets.iter().cycle().skip(lane).copied().take(len).collect()
                })
                .collect();
            let in_lanes = |cipher: &Cipher| {
                let mut encrypted = packets.clone();
                let mut slices = encrypted.iter_mut();
                let mut lanes = std::array::from_fn(|_| slices.next().unwrap().as_mut_slice());
                cipher.encrypt_lanes(&mut lanes);
                encrypted
            };
            let encrypted = in_lanes(&wide);
            prop_assert_eq!(&in_lanes(&narrow), &encrypted);
            for (encrypted, packet) in encrypted.iter().zip(&packets).take(used) {
                let (iv, plain) = packet.split_first_chunk::<BLOCK>().unwrap();
                let mut singly = plain.to_vec();
                wide.encrypt(*iv, &mut singly);
                prop_assert_eq!(&encrypted[BLOCK..], &singly);
                for cipher in [&wide, &narrow] {
                    let mut decrypted = singly.clone();
                    cipher.decrypt(*iv, &mut decrypted);
                    prop_assert_eq!(&decrypted, plain);
                }
            }
        }
    }
}
