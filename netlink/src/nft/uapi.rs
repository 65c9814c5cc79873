//! Numbers of `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.
//!
//! The attribute modules are named after the kernel's enums: `attr::chain::HOOK` is `NFTA_CHAIN_HOOK`.

pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP: u16 = 0x300;
/// On a dump's message: the tables changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
/// On an error: the refused message is not quoted beyond its header.
pub const NLM_F_CAPPED: u16 = 0x100;
/// On an error: attributes follow.
pub const NLM_F_ACK_TLVS: u16 = 0x200;

pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
pub const NFNL_MSG_BATCH_END: u16 = 0x11;
pub const NFNL_BATCH_GENID: u16 = 1;
pub const NFNL_SUBSYS_NFTABLES: u16 = 10;
pub const NLA_F_NESTED: u16 = 0x8000;
/// Without the nested and byte order flags.
pub const NLA_TYPE_MASK: u16 = 0x3fff;
/// Extended acknowledgment: what went wrong, as text.
pub const NLMSGERR_ATTR_MSG: u16 = 1;

pub const NFPROTO_INET: u8 = 1;
pub const NFPROTO_IPV4: u8 = 2;
pub const NFPROTO_NETDEV: u8 = 5;
pub const NFPROTO_IPV6: u8 = 10;

/// `enum nf_tables_msg_types`.
pub mod message {
    pub const NEW_TABLE: u16 = 0;
    pub const GET_TABLE: u16 = 1;
    pub const DEL_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const GET_CHAIN: u16 = 4;
    pub const DEL_CHAIN: u16 = 5;
    pub const NEW_RULE: u16 = 6;
    pub const GET_RULE: u16 = 7;
    pub const DEL_RULE: u16 = 8;
    pub const NEW_SET: u16 = 9;
    pub const GET_SET: u16 = 10;
    pub const DEL_SET: u16 = 11;
    pub const NEW_ELEMENT: u16 = 12;
    pub const GET_ELEMENT: u16 = 13;
    pub const DEL_ELEMENT: u16 = 14;
    pub const GET_GENERATION: u16 = 16;
    pub const NEW_OBJECT: u16 = 18;
    pub const GET_OBJECT: u16 = 19;
    pub const DEL_OBJECT: u16 = 20;
    pub const NEW_FLOWTABLE: u16 = 22;
    pub const GET_FLOWTABLE: u16 = 23;
    pub const DEL_FLOWTABLE: u16 = 24;
}

pub mod attr {
    pub const LIST_ELEM: u16 = 1;
    pub const GEN_ID: u16 = 1;

    pub mod table {
        pub const NAME: u16 = 1;
        pub const FLAGS: u16 = 2;
    }
    pub mod chain {
        pub const TABLE: u16 = 1;
        pub const NAME: u16 = 3;
        pub const HOOK: u16 = 4;
        pub const POLICY: u16 = 5;
        pub const TYPE: u16 = 7;
    }
    pub mod hook {
        pub const NUMBER: u16 = 1;
        pub const PRIORITY: u16 = 2;
        pub const DEVICE: u16 = 3;
        pub const DEVICES: u16 = 4;
    }
    pub mod rule {
        pub const TABLE: u16 = 1;
        pub const CHAIN: u16 = 2;
        pub const EXPRESSIONS: u16 = 4;
        pub const USERDATA: u16 = 7;
    }
    pub mod set {
        pub const TABLE: u16 = 1;
        pub const NAME: u16 = 2;
        pub const FLAGS: u16 = 3;
        pub const KEY_TYPE: u16 = 4;
        pub const KEY_LEN: u16 = 5;
        pub const DATA_TYPE: u16 = 6;
        pub const DATA_LEN: u16 = 7;
        pub const DESC: u16 = 9;
        pub const ID: u16 = 10;
        pub const TIMEOUT: u16 = 11;
        pub const USERDATA: u16 = 13;
        pub const EXPR: u16 = 17;
    }
    pub mod set_desc {
        pub const SIZE: u16 = 1;
        pub const CONCAT: u16 = 2;
        pub const FIELD_LEN: u16 = 1;
    }
    pub mod elements {
        pub const TABLE: u16 = 1;
        pub const SET: u16 = 2;
        pub const ELEMENTS: u16 = 3;
        pub const SET_ID: u16 = 4;
    }
    pub mod element {
        pub const KEY: u16 = 1;
        pub const DATA: u16 = 2;
        pub const FLAGS: u16 = 3;
        pub const TIMEOUT: u16 = 4;
        pub const EXPIRATION: u16 = 5;
        pub const USERDATA: u16 = 6;
        pub const KEY_END: u16 = 10;
    }
    pub mod data {
        pub const VALUE: u16 = 1;
        pub const VERDICT: u16 = 2;
    }
    pub mod verdict {
        pub const CODE: u16 = 1;
        pub const CHAIN: u16 = 2;
    }
    pub mod expr {
        pub const NAME: u16 = 1;
        pub const DATA: u16 = 2;
    }
    pub mod object {
        pub const TABLE: u16 = 1;
        pub const NAME: u16 = 2;
        pub const TYPE: u16 = 3;
        pub const DATA: u16 = 4;
        pub const USERDATA: u16 = 8;
    }
    pub mod flowtable {
        pub const TABLE: u16 = 1;
        pub const NAME: u16 = 2;
        pub const HOOK: u16 = 3;
        pub const FLAGS: u16 = 7;
    }
    pub mod flowtable_hook {
        pub const NUMBER: u16 = 1;
        pub const PRIORITY: u16 = 2;
        pub const DEVICES: u16 = 3;
    }
    pub const DEVICE_NAME: u16 = 1;
    pub mod counter {
        pub const BYTES: u16 = 1;
        pub const PACKETS: u16 = 2;
    }
    pub mod quota {
        pub const BYTES: u16 = 1;
        pub const FLAGS: u16 = 2;
    }
    pub mod limit {
        pub const RATE: u16 = 1;
        pub const UNIT: u16 = 2;
        pub const BURST: u16 = 3;
        pub const TYPE: u16 = 4;
        pub const FLAGS: u16 = 5;
    }
    pub mod ct_helper {
        pub const NAME: u16 = 1;
        pub const L3PROTO: u16 = 2;
        pub const L4PROTO: u16 = 3;
    }
    pub mod ct_timeout {
        pub const L3PROTO: u16 = 1;
        pub const L4PROTO: u16 = 2;
        pub const DATA: u16 = 3;
    }
    pub mod synproxy {
        pub const MSS: u16 = 1;
        pub const WSCALE: u16 = 2;
        pub const FLAGS: u16 = 3;
    }
}

/// `enum nft_set_flags`.
pub mod set_flag {
    pub const ANONYMOUS: u32 = 0x1;
    pub const CONSTANT: u32 = 0x2;
    pub const INTERVAL: u32 = 0x4;
    pub const MAP: u32 = 0x8;
    pub const TIMEOUT: u32 = 0x10;
    pub const EVAL: u32 = 0x20;
    pub const CONCAT: u32 = 0x80;
}

/// `enum nft_set_elem_flags`.
pub mod element_flag {
    pub const INTERVAL_END: u32 = 1;
    pub const CATCHALL: u32 = 2;
}

/// Tags of the userdata that libnftnl writes and `nft` reads (`libnftnl/udata.h`): one byte tag, one byte length.
pub mod udata {
    pub const COMMENT: u8 = 0;
    pub const SET_KEY_ORDER: u8 = 0;
    pub const SET_DATA_ORDER: u8 = 1;
    pub const SET_MERGE: u8 = 2;
    pub const SET_KEY_TYPEOF: u8 = 3;
    pub const SET_DATA_TYPEOF: u8 = 4;
    pub const SET_COMMENT: u8 = 7;
    /// `enum byteorder` of nft.
    pub const ORDER_NONE: u32 = 0;
    pub const ORDER_HOST: u32 = 1;
    pub const ORDER_NETWORK: u32 = 2;
}

/// `NFT_OBJECT_*`.
pub mod object_type {
    pub const COUNTER: u32 = 1;
    pub const QUOTA: u32 = 2;
    pub const CT_HELPER: u32 = 3;
    pub const LIMIT: u32 = 4;
    pub const CT_TIMEOUT: u32 = 7;
    pub const SYNPROXY: u32 = 10;
}

/// `NF_SYNPROXY_OPT_*`.
pub mod synproxy_option {
    pub const MSS: u32 = 0x1;
    pub const WSCALE: u32 = 0x2;
    pub const SACK_PERM: u32 = 0x4;
    pub const TIMESTAMP: u32 = 0x8;
}

/// Verdicts, as the two's complement that goes over the wire.
pub mod verdict_code {
    pub const DROP: i32 = 0;
    pub const ACCEPT: i32 = 1;
    pub const CONTINUE: i32 = -1;
    pub const JUMP: i32 = -3;
    pub const GOTO: i32 = -4;
    pub const RETURN: i32 = -5;
}

/// The data type that stands for a verdict.
pub const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
/// `flags` of limit, quota and connlimit: match past the bound.
pub const FLAG_INVERT: u32 = 1;
/// Flowtables count packets.
pub const NFT_FLOWTABLE_COUNTER: u32 = 2;
