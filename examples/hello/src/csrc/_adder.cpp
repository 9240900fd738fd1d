// The compiled part of hello_server: adds two integers, and refuses a sum that does not fit.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>

namespace {

PyObject *add(PyObject *, PyObject *args) {
    long long left = 0;
    long long right = 0;
    if (!PyArg_ParseTuple(args, "LL:add", &left, &right)) {
        return nullptr;
    }
    std::int64_t sum = 0;
    if (__builtin_add_overflow(left, right, &sum)) {
        PyErr_SetString(PyExc_OverflowError, "the sum does not fit into 64 bits");
        return nullptr;
    }
    return PyLong_FromLongLong(sum);
}

PyMethodDef methods[] = {
    {"add", add, METH_VARARGS, "add(left, right): the sum of two 64-bit integers."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_adder", "Integer addition in C++.", -1, methods,
    nullptr, nullptr, nullptr, nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__adder() { return PyModule_Create(&definition); }
