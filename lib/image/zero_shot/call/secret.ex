defmodule Image.ZeroShot.Call.Secret do
  @moduledoc false

  # Keeps a text out of logs. It lives in a closure: `inspect/2` and Erlang's crash reports print only
  # the name of a function.

  @enforce_keys [:reveal]
  defstruct [:reveal]

  @type t :: %__MODULE__{reveal: (... -> String.t())}

  @spec new(String.t()) :: t()
  def new(text) when is_binary(text), do: %__MODULE__{reveal: fn -> text end}

  @spec reveal(t()) :: String.t()
  def reveal(%__MODULE__{reveal: reveal}), do: reveal.()

  @doc """
  Hides tokens, and passwords in addresses, in options of any shape, for a log.
  """
  @spec redact(term()) :: term()
  def redact(%{} = opts) when not is_struct(opts), do: Map.new(opts, &redact/1)

  def redact(opts) when is_list(opts),
    do: if(List.improper?(opts), do: :hidden, else: Enum.map(opts, &redact/1))

  def redact({key, value}) do
    cond do
      inspect(key) =~ ~r/token/i -> {key, :hidden}
      inspect(key) =~ ~r/endpoint/i -> {key, redact_address(value)}
      true -> {key, value}
    end
  end

  def redact(other), do: other

  @spec redact_address(term()) :: term()
  def redact_address(value) when is_binary(value),
    do: if(value =~ ~r/[@?]/, do: :hidden, else: value)

  def redact_address(value) when is_nil(value) or is_number(value), do: value
  # Any other term may have the password in any part of it.
  def redact_address(_value), do: :hidden

  defimpl Inspect do
    def inspect(_secret, _opts), do: "#Image.ZeroShot.Call.Secret<...>"
  end
end
