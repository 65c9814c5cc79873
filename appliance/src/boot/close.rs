//! The drop-all ruleset.

use glacis_netlink::nft::{Connection, NftError};
use glacis_plan::{closed, nft::transaction};

/// Loads the ruleset under which only loopback passes. The kernel is fresh: nothing is there to keep.
pub fn drop_everything() -> Result<(), NftError> {
    let steps = transaction::between(None, &closed::drop_all());
    Connection::open()?.commit(&steps, None).map(drop)
}
