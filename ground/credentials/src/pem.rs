//! PEM blocks with their headers (RFC 7468, RFC 1421 §4.4).

use culvert_vocab::SecretBytes;
use data_encoding::BASE64;
use zeroize::Zeroizing;

/// One block between `-----BEGIN LABEL-----` and `-----END LABEL-----`.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) label: String,
    /// Value of `DEK-Info` when `Proc-Type` says that the content is encrypted.
    pub(crate) dek_info: Option<String>,
    /// The content; `None` if it is no base64.
    pub(crate) content: Option<SecretBytes>,
}

/// All complete blocks, in order. Text around them is skipped, and so is a block that the next one
/// begins in.
pub(crate) fn blocks(file: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, Vec<&[u8]>)> = None;
    for line in file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if let Some(label) = boundary(line, b"-----BEGIN ") {
            open = Some((label, Vec::new()));
        } else if let Some(end) = boundary(line, b"-----END ") {
            let ended = open.take().filter(|(label, _)| *label == end);
            blocks.extend(ended.map(|(label, body)| block(label, &body)));
        } else if let Some((_, body)) = &mut open {
            body.push(line);
        }
    }
    blocks
}

fn boundary<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a str> {
    let label = line.strip_prefix(prefix)?.strip_suffix(b"-----")?;
    std::str::from_utf8(label).ok()
}

fn block(label: &str, body: &[&[u8]]) -> Block {
    let mut encrypted = false;
    let mut dek_info = None;
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.iter().map(|line| line.len()).sum()));
    for line in body {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            base64.extend_from_slice(line);
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = String::from_utf8_lossy(value.get(1..).unwrap_or_default());
        match name {
            b"Proc-Type" => encrypted = value.trim().ends_with("ENCRYPTED"),
            b"DEK-Info" => dek_info = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Block {
        label: label.to_owned(),
        dek_info: dek_info.filter(|_| encrypted),
        content: BASE64.decode(&base64).ok().map(SecretBytes::new),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_among_text() {
        let file = b"Bag Attributes\r\n-----BEGIN A-----\r\nAQ\r\nI=\r\n-----END A-----\r\nx\n\
            -----BEGIN B-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAw==\n-----END B-----\n\
            -----BEGIN C-----\nAw==\n-----END D-----\n-----BEGIN E-----\n*\n-----END E-----\n\
            -----BEGIN F-----\nAw==\n-----BEGIN G-----\nBA==\n-----END G-----\n-----END F-----\n-----BEGIN H-----\nAw==";
        let found = blocks(file);
        let labels: Vec<&str> = found.iter().map(|block| block.label.as_str()).collect();
        assert_eq!(labels, ["A", "B", "E", "G"]);
        let content = |index: usize| found[index].content.as_ref().map(SecretBytes::expose);
        assert_eq!(content(0), Some(&[1, 2][..]));
        assert_eq!(found[0].dek_info, None);
        assert_eq!(found[1].dek_info.as_deref(), Some("AES-128-CBC,00"));
        assert_eq!(content(1), Some(&[3][..]));
        assert_eq!(content(2), None);
        assert_eq!(content(3), Some(&[4][..]));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(-----BEGIN A-----|-----END A-----|\n|DEK-Info: x|Proc-Type: 4,ENCRYPTED|AQ==|.){0,30}") {
            blocks(text.as_bytes());
        }
    }
}
