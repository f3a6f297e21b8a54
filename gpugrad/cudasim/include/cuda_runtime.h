// What kernels need of it is known without it.
#pragma once
