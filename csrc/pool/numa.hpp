// Memory nodes, where there is more than one.
#pragma once

#include <cstddef>

namespace thinwire::pool {

// Pages of this memory that are not there yet shall come from the node of the calling thread, as
// long as it has some.
void prefer_this_node(std::byte* begin, std::size_t bytes);

} // namespace thinwire::pool
