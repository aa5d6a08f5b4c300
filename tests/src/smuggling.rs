//! Sequences that another reader may take for the end of the data, and that are not. Tests of the engine reach this file by
//! its path: there is one table.

/// They end no data (RFC 5321 §4.1.1.4; M-043).
pub const NOT_THE_END: [&[u8]; 13] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\n.\r",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\0\n.\r\n",
    b"\r\n.\r\0\n",
];
