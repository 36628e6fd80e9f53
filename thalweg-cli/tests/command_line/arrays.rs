//! NumPy files, written by hand: the formats are a page each.
//!
//! Sources: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html> and PKWARE's APPNOTE 6.3,
//! sections 4.3.7, 4.3.12 and 4.3.16.

/// An array of zeros. `descr` is NumPy's name of the type, whose last character is its size in bytes.
pub fn npy(descr: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The data starts at a multiple of 64 bytes, 10 of which stand before the header.
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let element_bytes: usize = descr[descr.len() - 1..].parse().unwrap();
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    file.extend(header.as_bytes());
    file.resize(file.len() + shape.iter().product::<usize>() * element_bytes, 0);
    file
}

/// An archive of named arrays, not compressed.
pub fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, array) in arrays {
        let name = format!("{name}.npy");
        let start = size(&file);
        let facts = entry_facts(&name, array);
        file.extend(b"PK\x03\x04");
        file.extend(&facts);
        file.extend(name.as_bytes());
        file.extend(array);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&facts);
        // No comment, first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(start);
        directory.extend(name.as_bytes());
    }
    let (start, length) = (size(&file), size(&directory));
    let count = u16::try_from(arrays.len()).unwrap().to_le_bytes();
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].concat());
    file.extend([length, start].concat());
    file.extend([0; 2]);
    file
}

/// What an entry's own header and the directory have in common.
fn entry_facts(name: &str, data: &[u8]) -> Vec<u8> {
    // Version 2.0, no flags, stored, at midnight of 1 January 1980.
    let mut facts = b"\x14\x00\0\0\0\0\0\0\x21\x00".to_vec();
    facts.extend(crc32(data).to_le_bytes());
    facts.extend([size(data), size(data)].concat());
    facts.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    facts.extend([0; 2]);
    facts
}

fn size(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |rest: u32, _| if rest & 1 == 1 { (rest >> 1) ^ 0xedb8_8320 } else { rest >> 1 };
    !bytes.iter().fold(!0, |rest, byte| (0..8).fold(rest ^ u32::from(*byte), step))
}
