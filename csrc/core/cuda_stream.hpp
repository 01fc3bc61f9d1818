// How rooms that do not see CUDA's headers hand on its streams.
#pragma once

namespace thinwire::cuda {

using Stream = void*; // a cudaStream_t; null is the legacy default stream

} // namespace thinwire::cuda
