# A stand-in for Nx where it is not there: what the tests and this library use of it, with the
# answers of the real one, on which the same tests pass.

unless Code.ensure_loaded?(Nx) do
  defmodule Nx.Tensor do
    @moduledoc false
    defstruct [:data, :type, :shape, :names, vectorized_axes: []]
  end

  defmodule Nx.BinaryBackend do
    @moduledoc false
    defstruct [:state]
    def to_binary(%{data: %{state: state}}, _limit), do: state
  end

  defmodule Nx.TemplateBackend do
    @moduledoc false
    defstruct []

    def to_binary(_tensor, _limit),
      do: raise("cannot perform operations on a Nx.TemplateBackend tensor")
  end

  defmodule Nx do
    @moduledoc false

    alias Nx.Tensor

    def from_binary(binary, type) do
      {_kind, bits} = type
      size = div(bit_size(binary), bits)
      %Tensor{data: %Nx.BinaryBackend{state: binary}, type: type, shape: {size}, names: [nil]}
    end

    def reshape(tensor, shape, opts \\ []) do
      names = opts[:names] || List.duplicate(nil, tuple_size(shape))
      %{tensor | shape: shape, names: names}
    end

    def template(shape, type, opts \\ []),
      do: reshape(%Tensor{data: %Nx.TemplateBackend{}, type: type}, shape, opts)

    def vectorize(tensor, name) do
      [size | shape] = Tuple.to_list(tensor.shape)
      axes = [{name, size}]
      names = tl(tensor.names)
      %{tensor | shape: List.to_tuple(shape), names: names, vectorized_axes: axes}
    end

    def shape(tensor), do: tensor.shape
    def names(tensor), do: tensor.names
    def type(tensor), do: tensor.type
    def to_binary(tensor), do: tensor.data.__struct__.to_binary(tensor, nil)
  end
end

defmodule Image.ZeroShot.Test.FailingBackend do
  @moduledoc false

  # Tensors whose numbers cannot be had, as when a device has lost them.
  defstruct []

  def to_binary(_tensor, _limit), do: raise("the buffer was donated")

  # What real Nx asks before it shows a tensor
  def inspect(_tensor, _opts), do: "failing"
end
