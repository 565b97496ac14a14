// The vector types of CUDA, with its alignments.
#pragma once

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define SIM_VECTOR2(T, NAME, ALIGN)          \
    struct alignas(ALIGN) NAME {             \
        T x, y;                              \
    };                                       \
    constexpr NAME make_##NAME(T x, T y) { return {x, y}; }
#define SIM_VECTOR3(T, NAME)                 \
    struct NAME {                            \
        T x, y, z;                           \
    };                                       \
    constexpr NAME make_##NAME(T x, T y, T z) { return {x, y, z}; }
#define SIM_VECTOR4(T, NAME, ALIGN)          \
    struct alignas(ALIGN) NAME {             \
        T x, y, z, w;                        \
    };                                       \
    constexpr NAME make_##NAME(T x, T y, T z, T w) { return {x, y, z, w}; }

SIM_VECTOR2(unsigned char, uchar2, 2)
SIM_VECTOR4(unsigned char, uchar4, 4)
SIM_VECTOR2(unsigned short, ushort2, 4)
SIM_VECTOR4(unsigned short, ushort4, 8)
SIM_VECTOR2(int, int2, 8)
SIM_VECTOR3(int, int3)
SIM_VECTOR4(int, int4, 16)
SIM_VECTOR2(unsigned, uint2, 8)
SIM_VECTOR3(unsigned, uint3)
SIM_VECTOR4(unsigned, uint4, 16)
SIM_VECTOR2(long long, longlong2, 16)
SIM_VECTOR2(unsigned long long, ulonglong2, 16)
SIM_VECTOR2(float, float2, 8)
SIM_VECTOR3(float, float3)
SIM_VECTOR4(float, float4, 16)
SIM_VECTOR2(double, double2, 16)
SIM_VECTOR4(double, double4, 16)

#undef SIM_VECTOR2
#undef SIM_VECTOR3
#undef SIM_VECTOR4
