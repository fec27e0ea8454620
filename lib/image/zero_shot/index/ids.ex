defmodule Image.ZeroShot.Index.Ids do
  @moduledoc false

  # Ids of an index as the native library has them: bytes of Erlang's external format.

  alias Image.ZeroShot.Classifier.ExternalTerm

  @max_bytes 65_536

  # Equal terms have to be equal bytes, whatever the order in a map was, and in every version.
  @format [:deterministic, minor_version: 2]

  @spec encode!(term()) :: binary()
  def encode!(id) do
    bytes = :erlang.term_to_binary(id, @format)

    if byte_size(bytes) > @max_bytes do
      raise ArgumentError,
            "expected an id of at most #{@max_bytes} bytes, got one of #{byte_size(bytes)}; use a " <>
              "number or a short string, and keep what belongs to it elsewhere"
    end

    bytes
  end

  @spec pack!([term()]) :: binary()
  def pack!(ids), do: ids |> Enum.map(&encode!/1) |> pack_encoded()

  @spec pack_encoded([binary()]) :: binary()
  def pack_encoded(encoded) do
    for bytes <- encoded, into: <<>>, do: <<byte_size(bytes)::32-native, bytes::binary>>
  end

  @doc """
  An id that this node wrote, or that `valid?/1` approved.
  """
  @spec decode(binary()) :: term()
  def decode(bytes), do: :erlang.binary_to_term(bytes)

  @doc """
  Whether an id means the same in other systems: no process, reference or function.
  """
  @spec portable?(binary()) :: boolean()
  def portable?(bytes), do: match?({:ok, _memory}, ExternalTerm.memory(bytes))

  @doc """
  Whether bytes of a file are an id as we write it, and make no new atom.
  """
  @spec valid?(binary()) :: boolean()
  def valid?(bytes) do
    portable?(bytes) and bytes |> :erlang.binary_to_term([:safe]) |> encode!() == bytes
  rescue
    ArgumentError -> false
  end
end
