columns_nhwc = columns_nhwc_adjoint = None
