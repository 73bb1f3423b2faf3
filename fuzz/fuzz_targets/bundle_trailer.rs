//! The trailer: a valid one is exactly what we would write.
#![no_main]
use omsagent::bundle::trailer::Trailer;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

libfuzzer_sys::fuzz_target!(|input: (u64, [[u8; 32]; 4], bool)| {
    let (size, parts, honest) = input;
    let mut bytes = [0u8; 128];
    for (place, part) in bytes.chunks_exact_mut(32).zip(parts) {
        place.copy_from_slice(&part);
    }
    bytes[..8].copy_from_slice(b"OMSBEND1");
    let crc = CRC.checksum(&bytes[..124]);
    bytes[124..].copy_from_slice(&crc.to_le_bytes());
    let size = if honest { u64::from_le_bytes(bytes[80..88].try_into().unwrap()) } else { size };
    if let Ok(trailer) = Trailer::parse(&bytes, size) {
        assert_eq!(trailer.bytes(), bytes);
        assert_eq!(trailer.total(), size);
    }
});
