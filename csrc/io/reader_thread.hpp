// What every thread of a reader does first.
#pragma once

namespace thinwire {

// Names the calling thread and leaves signals to the others: Python handles them in its own.
void begin_reader_thread();

} // namespace thinwire
