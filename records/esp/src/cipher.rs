//! AES-CBC over whole blocks, in place.

use aes::cipher::consts::U16;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockDecryptMut, BlockEncrypt, BlockEncryptMut, BlockSizeUser, InnerIvInit, KeyInit};
use aes::{Aes128, Aes256, Block};
use culvert_sys::sha1_lanes::LANES;

use crate::association::{Association, Encryption, KeyError};
use crate::packet::BLOCK;

/// An expanded key. Boxed: the schedules are large and live as long as the association.
pub(crate) enum Cipher {
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
        match encryption {
            Encryption::Aes128Cbc => Aes128::new_from_slice(key.expose())
                .map(|aes| Self::Aes128(Box::new(aes)))
                .map_err(wrong_length),
            Encryption::Aes256Cbc => Aes256::new_from_slice(key.expose())
                .map(|aes| Self::Aes256(Box::new(aes)))
                .map_err(wrong_length),
        }
    }

    /// `blocks` is a multiple of [`BLOCK`].
    pub(crate) fn encrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(blocks).into_chunks();
        match self {
            Self::Aes128(aes) => {
                cbc::Encryptor::inner_iv_init(&**aes, &iv.into()).encrypt_blocks_inout_mut(blocks);
            }
            Self::Aes256(aes) => {
                cbc::Encryptor::inner_iv_init(&**aes, &iv.into()).encrypt_blocks_inout_mut(blocks);
            }
        }
    }

    /// Encrypts several packets of equal length, each an IV with the blocks behind it: CBC must wait
    /// for one block before the next of the same packet, not for those of others. An empty one
    /// is no packet.
    pub(crate) fn encrypt_lanes(&self, packets: &mut [&mut [u8]; LANES]) {
        match self {
            Self::Aes128(aes) => encrypt_lanes(&**aes, packets),
            Self::Aes256(aes) => encrypt_lanes(&**aes, packets),
        }
    }

    /// `blocks` is a multiple of [`BLOCK`].
    pub(crate) fn decrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(blocks).into_chunks();
        match self {
            Self::Aes128(aes) => {
                cbc::Decryptor::inner_iv_init(&**aes, &iv.into()).decrypt_blocks_inout_mut(blocks);
            }
            Self::Aes256(aes) => {
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
